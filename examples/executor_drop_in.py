"""The same code on `concurrent.futures.ProcessPoolExecutor` and on `scoop.Executor`: only the class changes.

It draws the Mandelbrot set, a line of text per task.
"""

import argparse
import concurrent.futures
import time

import scoop

SHADES = " .:-=+*#%@"


def line(y, columns, depth):
    """One line of the picture."""
    shades = []
    for column in range(columns):
        c = complex(-2.1 + 2.8 * column / columns, y)
        z, steps = 0j, 0
        while abs(z) < 2.0 and steps < depth:
            z = z * z + c
            steps += 1
        shades.append(SHADES[steps * (len(SHADES) - 1) // depth])
    return "".join(shades)


def draw(executor, rows, columns, depth):
    """Return the picture, drawn with any executor, and the seconds it took."""
    start = time.perf_counter()
    heights = [1.2 - 2.4 * row / (rows - 1) for row in range(rows)]
    lines = executor.map(line, heights, [columns] * rows, [depth] * rows)
    return "\n".join(lines), time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description="the Mandelbrot set with two executors")
    parser.add_argument("--rows", type=int, default=32, help="(default: %(default)s)")
    parser.add_argument("--columns", type=int, default=96, help="(default: %(default)s)")
    parser.add_argument("--depth", type=int, default=3000, help="iterations (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: %(default)s)")
    options = parser.parse_args()

    pictures = []
    for executor_class in (concurrent.futures.ProcessPoolExecutor, scoop.Executor):
        with executor_class(options.workers) as executor:
            picture, seconds = draw(executor, options.rows, options.columns, options.depth)
        pictures.append((executor_class.__name__, picture, seconds))

    print(pictures[-1][1])
    assert pictures[0][1] == pictures[1][1]
    for name, _, seconds in pictures:
        print(f"{name:20} {seconds:6.2f} s")


if __name__ == "__main__":
    main()
