#!/bin/bash
# Slurm: sbatch slurm_heterogeneous.sh
# Two components: one process with much memory, where the program runs, and 64 workers on ordinary hosts.
#SBATCH --job-name=scoop
#SBATCH --nodes=1 --ntasks=1 --mem=64G
#SBATCH hetjob
#SBATCH --nodes=4 --ntasks-per-node=16 --mem-per-cpu=1G

scoop-run "${1:-../pi.py}"
