#!/bin/sh
# Grid Engine: qsub grid_engine.sh
# 32 slots of a parallel environment (qconf -spl lists yours); hosts and slots come from $PE_HOSTFILE, and
# scoop-run starts the rest by qrsh -inherit. The environment must have control_slaves TRUE.
#$ -N scoop
#$ -pe rr 32
#$ -cwd
#$ -V
#$ -j y

scoop-run "${1:-../pi.py}"
