#!/bin/bash
# LSF: bsub < lsf.sh
# 32 slots, 8 on each host, from $LSB_MCPU_HOSTS; scoop-run starts the rest by blaunch.
#BSUB -J scoop
#BSUB -n 32
#BSUB -R "span[ptile=8]"
#BSUB -W 01:00
#BSUB -o scoop-%J.out

scoop-run "${1:-../pi.py}"
