"""Workloads: what runs inside a case program, with a started library."""
