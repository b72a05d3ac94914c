"""System calls that the agent needs and the standard library lacks."""

import os

cdef extern from "sys/prctl.h" nogil:
    int prctl(int, unsigned long, unsigned long, unsigned long, unsigned long)
    int PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, PR_SET_NAME

cdef extern from "errno.h" nogil:
    int errno


cdef int _prctl(int option, unsigned long value) except -1:
    if prctl(option, value, 0, 0, 0) < 0:
        raise OSError(errno, os.strerror(errno))
    return 0


def set_parent_death_signal(int signum):
    """Ask the kernel to send this process `signum` when the thread that made it ends (prctl(2)).

    Raises:
        OSError: the kernel refused.
    """
    _prctl(PR_SET_PDEATHSIG, signum)


def set_child_subreaper():
    """Make this process the parent of orphaned descendants (prctl(2)).

    Raises:
        OSError: the kernel refused.
    """
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def set_name(str name not None):
    """Set the name of the calling thread as `ps` and `top` show it, at most 15 bytes (prctl(2))."""
    cdef bytes text = name.encode()[:15]
    _prctl(PR_SET_NAME, <unsigned long><char *>text)
