#!/bin/bash
# Slurm: sbatch slurm_one_node.sh
# One process that was given 16 cores: as many workers, all on that host.
#SBATCH --job-name=scoop
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=16
#SBATCH --time=01:00:00
#SBATCH --output=scoop-%j.out

scoop-run "${1:-../pi.py}"
