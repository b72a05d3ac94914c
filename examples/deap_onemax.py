"""A genetic algorithm on islands with DEAP: every island evolves in a task of its own, the best ones migrate.

The problem is OneMax: bit strings that are to become all ones. `creator` makes classes while the program
runs, here even inside `main`; scoop sends them along with the individuals.

    pip install deap
"""

import argparse
import random
import sys

import scoop
from scoop import futures

try:
    from deap import algorithms, base, creator, tools
except ImportError:
    sys.exit("This example needs DEAP: pip install deap")


def ones(individual):
    """The fitness, a tuple as DEAP wants it."""
    return (sum(individual),)


def evolve(island, toolbox, generations):
    """Let one island live for some generations; return it, best first."""
    random.seed(scoop.rng().random())  # DEAP draws from the module `random`
    island, _ = algorithms.eaSimple(island, toolbox, 0.5, 0.2, generations, verbose=False)
    return tools.selBest(island, len(island))


def main():
    parser = argparse.ArgumentParser(
        description="OneMax on islands", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--bits", type=int, default=100, help="length of an individual")
    parser.add_argument("--islands", type=int, default=4, help="how many")
    parser.add_argument("--size", type=int, default=60, help="individuals on an island")
    parser.add_argument("--epochs", type=int, default=10, help="migrations")
    parser.add_argument("--generations", type=int, default=10, help="between two of them")
    options = parser.parse_args()
    scoop.configure(seed=64)
    random.seed(64)

    creator.create("Fitness", base.Fitness, weights=(1.0,))
    creator.create("Individual", list, fitness=creator.Fitness)
    toolbox = base.Toolbox()
    toolbox.register("bit", random.randint, 0, 1)
    toolbox.register("individual", tools.initRepeat, creator.Individual, toolbox.bit, options.bits)
    toolbox.register("evaluate", ones)
    toolbox.register("mate", tools.cxTwoPoint)
    toolbox.register("mutate", tools.mutFlipBit, indpb=0.05)
    toolbox.register("select", tools.selTournament, tournsize=3)

    islands = [[toolbox.individual() for _ in range(options.size)] for _ in range(options.islands)]
    for epoch in range(options.epochs):
        count = len(islands)
        islands = list(futures.map(evolve, islands, [toolbox] * count, [options.generations] * count))
        tools.migRing(islands, 5, tools.selBest)
        best = max(int(island[0].fitness.values[0]) for island in islands)
        print(f"epoch {epoch + 1:2}: best {best} of {options.bits}")
        if best == options.bits:
            break


if __name__ == "__main__":
    main()
