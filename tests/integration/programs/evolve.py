"""DEAP: classes that `creator` makes in main() exist in no module file."""

import random

from deap import base, creator, tools

import scoop


def evaluate(individual):
    return (sum(individual),)


def mutate(individual):
    from deap import tools

    (mutant,) = tools.mutFlipBit(individual, 0.2)
    del mutant.fitness.values
    return mutant


def main():
    creator.create("FitnessMax", base.Fitness, weights=(1.0,))
    creator.create("Individual", list, fitness=creator.FitnessMax)
    toolbox = base.Toolbox()
    toolbox.register("bit", random.randint, 0, 1)
    toolbox.register("individual", tools.initRepeat, creator.Individual, toolbox.bit, 20)
    population = [toolbox.individual() for _ in range(10)]
    with scoop.Executor(2) as executor:
        for _ in range(3):
            mutants = [f.result() for f in [executor.submit(mutate, one) for one in population]]
            assert all(type(one) is creator.Individual for one in mutants)
            for one, f in [(one, executor.submit(evaluate, one)) for one in mutants]:
                one.fitness.values = f.result()
            population = (
                tools.selBest(population[:5] + mutants, 10) if population[0].fitness.valid else mutants
            )
    print("best", max(sum(one) for one in population) > 5)


if __name__ == "__main__":
    main()
