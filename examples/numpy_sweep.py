"""A parameter sweep with numpy: where the logistic map settles at each growth rate, and how chaotic it is.

Every task gets a strip of growth rates and returns arrays, which travel beside the pickle and are not copied
into it. With matplotlib the result becomes a picture.

    pip install numpy matplotlib
"""

import argparse
import sys
from pathlib import Path

from scoop import futures

try:
    import numpy as np
except ImportError:
    sys.exit("This example needs numpy: pip install numpy")


def settle(rates, levels, steps):
    """Iterate x -> r x (1 - x); return how often each rate visits each level, and its Lyapunov exponent."""
    x = np.full(len(rates), 0.5)
    for _ in range(500):
        x = rates * x * (1.0 - x)

    visits = np.zeros((levels, len(rates)), dtype=np.int32)
    exponent = np.zeros(len(rates))
    columns = np.arange(len(rates))
    for _ in range(steps):
        x = rates * x * (1.0 - x)
        visits[(x * (levels - 1)).astype(int), columns] += 1
        exponent += np.log(np.abs(rates * (1.0 - 2.0 * x)) + 1e-12)
    return visits, exponent / steps


def plot(path, rates, visits, exponents):
    """Draw visits and exponents; return False if there is no matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (above, below) = pyplot.subplots(2, 1, sharex=True, figsize=(9, 7), height_ratios=(3, 1))
    extent = (rates[0], rates[-1], 0.0, 1.0)
    above.imshow(np.log1p(visits), origin="lower", aspect="auto", cmap="magma_r", extent=extent)
    above.set_ylabel("where x settles")
    below.plot(rates, exponents, linewidth=0.7)
    below.axhline(0.0, color="black", linewidth=0.7)
    below.set(xlabel="growth rate r", ylabel="Lyapunov exponent", ylim=(-2.5, 1.0))
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    return True


def main():
    parser = argparse.ArgumentParser(
        description="bifurcation diagram of the logistic map",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--rates", type=int, default=1200, help="growth rates, columns")
    parser.add_argument("--levels", type=int, default=600, help="levels of x, rows")
    parser.add_argument("--steps", type=int, default=4000, help="steps counted")
    parser.add_argument("--tasks", type=int, default=24, help="strips")
    parser.add_argument("--output", type=Path, default=Path("sweep.png"), help="picture")
    options = parser.parse_args()

    rates = np.linspace(2.8, 4.0, options.rates)
    calls = [
        futures.submit(settle, strip, options.levels, options.steps)
        for strip in np.array_split(rates, options.tasks)
    ]
    strips, exponents = zip(*[call.result() for call in calls], strict=True)
    visits, exponents = np.hstack(strips), np.concatenate(exponents)

    chaos = rates[exponents > 0.0]
    print(f"{options.rates} growth rates in {options.tasks} tasks, {chaos.size} of them chaotic")
    print(f"chaos begins at r = {chaos[0]:.3f}")
    if plot(options.output, rates, visits, exponents):
        print(f"the picture is in {options.output}")
    else:
        print("no picture was drawn: that needs matplotlib (pip install matplotlib)")


if __name__ == "__main__":
    main()
