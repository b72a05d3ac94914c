#!/bin/sh
# Hosts that you reach by ssh without a password: sh ssh.sh
# hosts.txt has a line for each host: its name, and a count of workers if you like.
scoop-run --hostfile "${HOSTS:-hosts.txt}" "${1:-../pi.py}"
