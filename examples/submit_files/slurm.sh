#!/bin/bash
# Slurm: sbatch slurm.sh
# 32 workers on 4 hosts; scoop-run takes the job's hosts and starts the rest by srun.
#SBATCH --job-name=scoop
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=8
#SBATCH --time=01:00:00
#SBATCH --output=scoop-%j.out

# module load python            # or: source ~/venv/bin/activate
scoop-run "${1:-../pi.py}"
