#!/bin/sh
# Any launcher of MPI, in a batch job or on hosts of your own: sh mpi.sh
# 8 processes, of which rank 0 runs the program. The program itself uses no MPI.
mpiexec -n "${RANKS:-8}" scoop-run "${1:-../pi.py}"
