#!/bin/bash
# PBS Professional, OpenPBS: qsub pbs.sh
# 32 workers on 4 hosts from $PBS_NODEFILE; the other hosts are reached by ssh, which must not ask for a password.
# TORQUE: nodes=4:ppn=8 in place of the select line.
#PBS -N scoop
#PBS -l select=4:ncpus=8:mpiprocs=8
#PBS -l walltime=01:00:00
#PBS -j oe

cd "$PBS_O_WORKDIR" || exit 1
scoop-run "${1:-../pi.py}"
