"""Every example runs as it is, and under `python -m scoop`."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

# name: (arguments that make it small, what it must print, modules that it needs)
CASES = {
    "asyncio_bridge": (
        "--numbers 4 --size 1000000000",
        r"factor of 1000000003: 141623\b(.|\n)*ticked \d+ times",
        (),
    ),
    "callbacks": ("--limit 30000 --tasks 10", r"below 30,000 has 307 steps and starts at 26,623", ()),
    "cancellation": (
        "--zeros 3 --tasks 50 --numbers 2000",
        r"sha256\(scoop\d+\) = 000(.|\n)*of 50 tasks",
        (),
    ),
    "checkpoint": (
        "--blocks 30 --size 500",
        r"30 blocks, 0 of them were there already\n1,754 primes below 15,000",
        (),
    ),
    "deap_onemax": (
        "--bits 20 --islands 2 --size 20 --epochs 3 --generations 5",
        r"epoch  1: best \d+ of 20",
        ("deap",),
    ),
    "exceptions": (
        "",
        r"step 19(.|\n)*, in solve(.|\n)*converged in 6 steps\nconverged in 19 steps\ndiverged at step 19"
        r"(.|\n)*crash killed its process with SIGKILL(.|\n)*3 attempts(.|\n)*after the crash: 19 steps"
        r"(.|\n)*\['layers'\]\[0\]\['lock'\]",
        (),
    ),
    "executor_drop_in": (
        "--rows 12 --columns 40 --depth 50",
        r"@@@(.|\n)*ProcessPoolExecutor .*\nExecutor ",
        (),
    ),
    "nested_tree": ("--tolerance 1e-6", r"from 0.001 to 1 is 0.504\d+\n[\d,]+ tasks, \d+ levels deep", ()),
    "numpy_sweep": (
        "--rates 60 --levels 20 --steps 200 --tasks 4",
        r"chaos begins at r = 3.5\d+\n(the picture is in sweep.png|no picture was drawn)",
        ("numpy",),
    ),
    "pi": ("--tries 200000 --tasks 50", r"pi is about 3.1\d+, from 200,000 darts in 50 tasks\n2 workers", ()),
    "shared_constants": ("--cities 40", r"40 cities(.|\n)*shortest \d\.\d+ from city \d+, longest", ()),
    "sorting": ("--items 20000 --leaf 2000", r"20,000 numbers in order", ()),
    "word_count": ("--top 3", r"[\d,]{6,} words in \d+ texts(.|\n)*  the\n", ()),
}


def skip_without(modules: tuple[str, ...]) -> None:
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")


def test_every_example_has_a_case_and_a_line():
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == set(CASES)
    listed = set(re.findall(r"`(\w+)\.py`", (EXAMPLES / "README.md").read_text()))
    assert names == listed


@pytest.mark.parametrize("launcher", [(), ("-m", "scoop", "-n", "2")], ids=["plain", "launched"])
@pytest.mark.parametrize("name", sorted(CASES))
def test_example_runs(name, launcher, run_program):
    arguments, expected, modules = CASES[name]
    skip_without(modules)
    done = run_program(*launcher, EXAMPLES / f"{name}.py", *arguments.split())
    assert done.returncode == 0, done.stderr
    assert re.search(expected, done.stdout), f"printed:\n{done.stdout}\n{done.stderr}"


def test_pi_is_the_same_on_any_number_of_workers(run_program):
    said = []
    for workers in (1, 2, 3):
        done = run_program(EXAMPLES / "pi.py", "--tries", 50000, "--tasks", 20, "--seed", 7, workers=workers)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout.splitlines()[0])
    assert said[0] == said[1] == said[2]


def test_checkpoint_continues_where_it_was(run_program):
    arguments = (EXAMPLES / "checkpoint.py", "--blocks", 40, "--size", 500)
    said = [run_program(*arguments, *more).stdout for more in (("--stop-after", 10), (), ())]
    assert said[0].startswith("10 blocks, 0 of them were there already\nstopped")
    there = int(re.search(r"40 blocks, (\d+) of them", said[1])[1])
    assert there >= 10
    assert said[2].startswith("40 blocks, 40 of them were there already\n2,262 primes below 20,000")


def test_an_example_works_with_one_worker(run_program):
    done = run_program(EXAMPLES / "nested_tree.py", "--tolerance", 1e-4, workers=1)
    assert done.returncode == 0, done.stderr
    assert "levels deep" in done.stdout


def test_sweep_says_what_is_missing_without_matplotlib(run_program, tmp_path):
    skip_without(("numpy",))
    (tmp_path / "matplotlib.py").write_text("raise ImportError('hidden by the test')\n")
    program = tmp_path / "numpy_sweep.py"
    program.write_text((EXAMPLES / "numpy_sweep.py").read_text())
    done = run_program(program, "--rates", 20, "--levels", 10, "--steps", 50, "--tasks", 2)
    assert done.returncode == 0, done.stderr
    assert "pip install matplotlib" in done.stdout
