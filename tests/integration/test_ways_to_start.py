"""`python program.py`, `scoop-run program.py`, `python -m scoop program.py`: the same program and end."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(60)

Run = Callable[..., "subprocess.CompletedProcess[str]"]

RUN = ("-c", "import sys; from scoop.launch.cli import main; sys.exit(main())")
WAYS = [
    pytest.param((), id="python"),
    pytest.param(("-m", "scoop"), id="python-m-scoop"),
    pytest.param((*RUN, "-n", "2"), id="scoop-run"),
]
PROGRAMS = Path(__file__).parent / "programs"


@pytest.mark.parametrize("via", WAYS)
def test_the_program_sees_itself_as_under_python(run: Run, via: tuple[str, ...]) -> None:
    seen = json.loads(run("shows_itself.py", "a", "-n", "--help", via=via).stdout)
    path = PROGRAMS / "shows_itself.py"
    assert seen == {
        "argv": ["a", "-n", "--help"],
        "argv0": str(path),
        "path0": str(path.parent),
        "file": str(path),
        "spec": "None",
        "package": "None",
        "doc": "Prints what a program sees of itself.",
        "squares": [0, 1, 4, 9, 16],
        "triple": 6,
        "name": "__main__",
    }


ENDINGS = {
    "end": ("pass", 0, ""),
    "exit": ("sys.exit(7)", 7, ""),
    "text": ("sys.exit('no input')", 1, "no input\n"),
    "none": ("sys.exit()", 0, ""),
    "raises": ("fail()", 1, None),
    "_exit": ("os._exit(9)", 9, ""),
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("via", WAYS[:2])
def test_exit_status_and_traceback_are_the_programs(
    run: Run, via: tuple[str, ...], ending: str, tmp_path: Path
) -> None:
    code, status, said = ENDINGS[ending]
    source = f"""\
import os, sys
from scoop import futures
def square(x): return x * x
def fail():
    raise ValueError("mine")
if __name__ == "__main__":
    assert futures.submit(square, 3).result() == 9
    {code}
"""
    done = run(source, via=via, status=status)
    if said is not None:
        assert done.stderr == said
    else:
        path = tmp_path / "program.py"
        lines = done.stderr.splitlines()
        assert lines[0] == "Traceback (most recent call last):"
        assert lines[1] == f'  File "{path}", line 8, in <module>', "frames of ours are in the traceback"
        assert lines[-1] == "ValueError: mine"
        assert "scoop" not in done.stderr.replace(str(path), "")


def test_syntax_error_as_under_python(run: Run) -> None:
    source = "x = 1\ny = = 2\n"
    assert run(source, status=1).stderr == run(source, via=("-m", "scoop"), status=1).stderr


@pytest.mark.parametrize("via", [(), ("-m", "scoop", "-n", "2")])
def test_a_module_of_a_package(environment: dict[str, str], via: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, *via, "-m", "pkg.inside", "-x", "1"],
        cwd=PROGRAMS,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "pkg pkg.inside ['-x', '1']\n"), done.stderr


def test_a_directory_with_a_main(run: Run, tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__main__.py").write_text(
        "import sys, helper\nfrom scoop import futures\n"
        "print(futures.submit(helper.f, 2).result(), sys.argv[1:])\n"
    )
    (tmp_path / "app" / "helper.py").write_text("def f(x): return x + 1\n")
    for via in ([], ["-m", "scoop"]):
        done = subprocess.run(
            [sys.executable, *via, str(tmp_path / "app"), "q"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, "3 ['q']\n"), done.stderr


def test_sources_that_are_not_built_say_so(tmp_path: Path, environment: dict[str, str]) -> None:
    """`python -m scoop` in a checkout finds its sources before the scoop that is installed."""
    import scoop

    assert scoop.__file__ is not None
    shutil.copytree(
        Path(scoop.__file__).parent, tmp_path / "scoop", ignore=shutil.ignore_patterns("*.so", "__pycache__")
    )
    (tmp_path / "program.py").write_text("from scoop import futures\nprint(list(futures.map(abs, [1])))\n")
    done = subprocess.run(
        [sys.executable, "-m", "scoop", "program.py"],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 1
    assert f"sources in {tmp_path}, which are not built" in done.stderr


COUNT = """\
import scoop
from scoop import futures, current
def f(): return 1
if __name__ == "__main__":
    futures.submit(f).result()
    print(current.size, len(current.settings().with_values().__slots__) > 5)
"""


def test_n_counts_the_origin(run: Run, living: Callable[[], dict[int, str]]) -> None:
    assert run(COUNT, via=("-m", "scoop", "-n", "3")).stdout == "3 True\n"
    assert run(COUNT, via=("-m", "scoop", "-n1")).stdout == "1 True\n"
    assert run(COUNT, env={"SCOOP_WORKERS": "4"}).stdout == "4 True\n"


def test_origin_idle_runs_nothing_in_the_origin(run: Run) -> None:
    source = """\
import os
from scoop import futures
def who(): return os.getpid()
if __name__ == "__main__":
    print(os.getpid() in {f.result() for f in [futures.submit(who) for _ in range(50)]})
"""
    assert run(source, via=("-m", "scoop", "--origin-idle", "-n", "3")).stdout == "False\n"


BAD = [
    (("--hosts", "a"), "there is no program to run"),
    (("--hosts", "-n", "2", "x.py"), "--hosts needs at least one host"),
    (("--backend", "x.py"), "--backend is not in this version yet"),
    (("--hostfile=x",), "there is no program to run"),
    (("--tunnel",), "there is no program to run"),
    (("-b", "2"), "there is no program to run"),
    (("--profile",), "--profile needs a value"),
    (("-n", "1", "--origin-idle", "p.py"), "somebody else must compute, so it takes -n 2 at least"),
    (("-n", "0", "p.py"), "-n must be a whole number of processes from 1 to 4000, not 0"),
    (("-n", "many", "p.py"), "not 'many'"),
    (("--threads=0", "p.py"), "--threads must be"),
    (("--tunnel=no", "p.py"), "--tunnel takes no value"),
    (("--no-copy=1", "p.py"), "--no-copy takes no value"),
    (("-n",), "-n needs a value"),
    (("--bogus", "p.py"), "unknown option --bogus"),
    ((), "there is no program to run"),
    (("nowhere.py",), "can't open file"),
    (("-m", "no_such_module"), "no module named 'no_such_module'"),
]


@pytest.mark.parametrize(("arguments", "said"), BAD, ids=[" ".join(words) or "nothing" for words, _ in BAD])
def test_bad_command_lines(arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str],
                           monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    from scoop.launch import cli

    monkeypatch.setattr(sys, "argv", ["scoop-run", *arguments])
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert cli.main() == 2
    assert said in capsys.readouterr().err


def test_bad_environment_names_the_variable(run: Run) -> None:
    done = run(COUNT, env={"SCOOP_WORKERS": "all"}, status=1)
    assert "SCOOP_WORKERS must be a whole number of processes from 1 to 4000, not 'all'" in done.stderr


def test_help_names_every_option(environment: dict[str, str]) -> None:
    from scoop.config import OPTIONS

    done = subprocess.run(
        [sys.executable, "-m", "scoop", "--help"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    for option in OPTIONS:
        assert option.environ in done.stdout
        assert all(flag in done.stdout for flag in option.flags)


def test_verbose_and_quiet(run: Run) -> None:
    source = """\
import os, scoop
def die(): os._exit(3)
if __name__ == "__main__":
    with scoop.Executor(1) as ex: ex.submit(die).exception()
"""
    quiet, plain, loud = (
        run(source, via=("-m", "scoop", *flags)).stderr for flags in (("-q",), (), ("-vv",))
    )
    assert quiet == ""
    assert plain.count("died") == 3
    assert "starts" not in plain
    assert loud.count("scoop: worker 0") >= 2
    assert "scoop: the workers of process" in loud
    assert run(source, env={"SCOOP_QUIET": "1"}).stderr == ""
