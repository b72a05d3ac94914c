"""Imported by others: a module beside the program."""


def triple(x):
    return 3 * x
