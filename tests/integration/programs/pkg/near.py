"""A neighbour in the package."""

OFFSET = 100


def shift(x):
    return x + OFFSET
