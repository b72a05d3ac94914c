"""scoop.futures, shared constants, random numbers, the logger and the attributes of the package."""

from __future__ import annotations

import concurrent.futures as cf
import functools
import importlib.util
import itertools
import logging
import operator
import random
import re
import statistics
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import scoop
from scoop import current, futures, shared


@pytest.fixture(params=[1, 2], ids=["alone", "two"])
def workers(request: pytest.FixtureRequest, nothing_left: str) -> Iterator[int]:
    """Workers of the module, the origin included."""
    scoop.configure(workers=request.param, seed=11)
    yield request.param
    futures.shutdown(cancel_futures=True)


@pytest.fixture
def two(nothing_left: str) -> Iterator[None]:
    """The module with one worker beside the origin."""
    scoop.configure(workers=2, seed=11)
    yield
    futures.shutdown(cancel_futures=True)


def square(n: int) -> int:
    return n * n


def join_texts(a: str, b: str) -> str:
    return a + b


def join_slowly(a: str, b: str) -> str:
    threading.Event().wait(0.003)
    return a + b


def fail(n: int) -> int:
    raise LookupError(n)


# ---------------------------------------------------------------------------------------------- names


def test_names_of_scoop_07_are_the_same_functions() -> None:
    for old, new in (
        ("mapReduce", "map_reduce"),
        ("mapScan", "map_scan"),
        ("joinAll", "join_all"),
        ("waitAny", "wait_any"),
        ("waitAll", "wait_all"),
        ("mapJoin", "map_join"),
        ("mapWait", "map_wait"),
    ):
        assert getattr(futures, old) is getattr(futures, new)


def test_constants_and_exceptions_are_those_of_the_standard_library() -> None:
    for name in (
        "FIRST_COMPLETED",
        "FIRST_EXCEPTION",
        "ALL_COMPLETED",
        "CancelledError",
        "TimeoutError",
        "BrokenExecutor",
    ):
        assert getattr(futures, name) is getattr(cf, name) or getattr(futures, name) == getattr(cf, name)
    assert futures.Future is scoop.Future
    assert issubclass(futures.Future, cf.Future)


def test_everything_public_exists_and_is_documented() -> None:
    for module in (futures, shared, scoop):
        for name in module.__all__:
            value = getattr(module, name)
            if callable(value):
                assert value.__doc__, name
    with pytest.raises(AttributeError, match="nonsense"):
        scoop.nonsense  # noqa: B018
    with pytest.raises(AttributeError, match="nonsense"):
        futures.nonsense  # noqa: B018


def test_version_is_that_of_the_distribution() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert re.search(r'^version = "(.*)"$', text, re.MULTILINE)[1] == scoop.__version__  # type: ignore[index]


def test_import_is_light() -> None:
    heavy = [
        "logging",
        "pickle",
        "cloudpickle",
        "concurrent.futures",
        "multiprocessing",
        "zmq",
        "greenlet",
        "asyncio",
    ]
    text = f"import sys, scoop; from scoop import futures; print([m for m in {heavy!r} if m in sys.modules])"
    root = str(Path(str(scoop.__file__)).parents[1])
    code = f"import sys; sys.path.insert(0, {root!r}); {text}"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def _import_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("scoop_anew", str(scoop.__file__))
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_refuses_interpreters_without_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    _import_anew(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "abiflags", "t")
        with pytest.raises(ImportError, match="global interpreter lock"):
            _import_anew(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
        with pytest.raises(ImportError, match="global interpreter lock"):
            _import_anew(monkeypatch)


def test_refuses_subinterpreters() -> None:
    name = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
    interpreters = pytest.importorskip(name)
    root = str(Path(str(scoop.__file__)).parents[1])
    text = textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {root!r})
        try:
            import scoop
        except ImportError as error:
            assert "subinterpreter" in str(error), error
        else:
            raise AssertionError("it was imported")
    """)
    made = interpreters.create()
    try:
        assert interpreters.run_string(made, text) is None
    finally:
        interpreters.destroy(made)


# ------------------------------------------------------------------------------------------ reductions


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 100, 30_000])
def test_map_reduce(workers: int, count: int) -> None:
    assert futures.map_reduce(square, operator.add, range(count)) == sum(map(square, range(count)))
    items = (n for n in range(count))
    assert futures.map_reduce(square, operator.add, items, initial=5) == 5 + sum(map(square, range(count)))


@pytest.mark.parametrize("reduction", [join_texts, join_slowly, lambda a, b: a + b])
def test_map_reduce_keeps_the_order(two: None, reduction: Callable[[str, str], str]) -> None:
    expected = "".join(map(str, range(200)))
    assert futures.map_reduce(str, reduction, range(200)) == expected
    assert futures.map_reduce(str, reduction, range(200), initial="<") == "<" + expected


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 100, 30_000])
def test_map_scan(workers: int, count: int) -> None:
    expected = list(itertools.accumulate(map(square, range(count))))
    assert futures.map_scan(square, operator.add, range(count)) == expected
    assert futures.map_scan(square, operator.add, iter(range(count)), initial=0) == [0, *expected]


@pytest.mark.parametrize("reduction", [join_texts, join_slowly])
def test_map_scan_keeps_the_order(two: None, reduction: Callable[[str, str], str]) -> None:
    expected = list(itertools.accumulate(map(str, range(60))))
    assert futures.map_scan(str, reduction, range(60)) == expected


@pytest.mark.parametrize("function", [futures.map_reduce, futures.map_scan])
def test_reductions_of_nothing_behave_as_reduce_does(workers: int, function: Any) -> None:
    with pytest.raises(TypeError, match=r"empty iterable with no initial value"):
        functools.reduce(operator.add, [])
    for nothing in ([], iter(()), {}):
        with pytest.raises(TypeError, match=r"empty iterable with no initial value"):
            function(square, operator.add, nothing)
    assert futures.map_reduce(square, operator.add, [], initial=None) is None
    assert futures.map_scan(square, operator.add, [], initial=None) == [None]


@pytest.mark.parametrize("function", [futures.map_reduce, futures.map_scan])
def test_reductions_of_several_iterables_and_errors(two: None, function: Any) -> None:
    total = sum(map(pow, range(9), range(9)))
    result = function(pow, operator.add, range(9), range(12))
    assert (result if isinstance(result, int) else result[-1]) == total
    with pytest.raises(LookupError):
        function(fail, operator.add, range(100))
    with pytest.raises(TypeError):
        function(str, operator.sub, range(100))
    with pytest.raises(cf.TimeoutError):
        function(lambda n: threading.Event().wait(20), operator.add, [1], timeout=0.05)


# ------------------------------------------------------------------------------------------- join family


def test_map_as_completed(workers: int) -> None:
    assert sorted(futures.map_as_completed(square, range(3000))) == [square(n) for n in range(3000)]
    assert sorted(futures.map_as_completed(pow, (n for n in range(50)), range(70))) == sorted(
        map(pow, range(50), range(50))
    )
    assert list(futures.map_as_completed(square, [])) == []
    with pytest.raises(LookupError):
        list(futures.map_as_completed(fail, range(10)))
    assert sorted(futures.map_as_completed(square, range(30), timeout=60)) == [square(n) for n in range(30)]
    endless = futures.map_as_completed(square, itertools.count())
    assert len(list(itertools.islice(endless, 1000))) == 1000
    with pytest.raises(cf.TimeoutError):
        list(futures.map_as_completed(lambda n: threading.Event().wait(20), [1], timeout=0.05))


def test_map_as_completed_gives_the_first_first(two: None) -> None:
    order = list(futures.map_as_completed(lambda s: threading.Event().wait(s) or s, [0.5, 0.01]))
    assert order == [0.01, 0.5]


def test_join_family(workers: int) -> None:
    def some() -> list[cf.Future[int]]:
        return [futures.submit(square, n) for n in range(10)]

    squares = [square(n) for n in range(10)]
    assert futures.join(futures.submit(square, 3)) == 9
    assert futures.join_all(*some()) == squares
    assert futures.join_all() == []
    assert sorted(f.result() for f in futures.wait_any(*some())) == squares
    assert [f.result() for f in futures.wait_all(*some())] == squares
    assert futures.map_join(square, range(10)) == squares
    assert [f.result() for f in futures.map_wait(square, range(10))] == squares
    with pytest.raises(LookupError):
        futures.join_all(futures.submit(square, 1), futures.submit(fail, 1))
    with pytest.raises(LookupError):
        list(futures.wait_any(futures.submit(square, 1), futures.submit(fail, 1)))
    with pytest.raises(LookupError):
        list(futures.wait_all(futures.submit(fail, 1)))


# ---------------------------------------------------------------------------------------------- shared


def read(name: str) -> Any:
    return shared.get_const(name)


def write(name: str, value: Any) -> str:
    shared.set_const(**{name: value})
    return scoop.worker


def test_constants(workers: int) -> None:
    shared.set_const(table={"a": [1]}, double=lambda n: 2 * n)
    shared.setConst(old=7)
    assert shared.get_const("double")(4) == 8
    assert [f.result() for f in [futures.submit(read, "old") for _ in range(20)]] == [7] * 20
    assert all(futures.map(lambda n: shared.get_const("double")(n) == 2 * n, range(200)))
    assert futures.submit(read, "table").result() == {"a": [1]}
    assert shared.get_const("table") is shared.get_const("table")


def test_constants_are_copies(two: None) -> None:
    mine = [1]
    shared.set_const(mine=mine)
    mine.append(2)
    assert shared.get_const("mine") == [1]


def test_a_constant_is_set_once(workers: int) -> None:
    shared.set_const(one=1)
    with pytest.raises(TypeError, match="'one'"):
        shared.set_const(one=1)
    with pytest.raises(TypeError, match="'one'"):
        shared.setConst(new=1, one=2)
    assert shared.getConst("new") is None, "all of them or none"
    with pytest.raises(TypeError, match="'one'"):
        futures.submit(write, "one", 2).result()


def test_constants_from_tasks(two: None) -> None:
    with pytest.raises(TypeError, match="lock"):
        shared.set_const(bad=threading.Lock())
    where = {futures.submit(write, f"of_task_{n}", n).result() for n in range(10)}
    assert [shared.get_const(f"of_task_{n}", timeout=30) for n in range(10)] == list(range(10)), where
    assert all(futures.map(lambda n: shared.get_const(f"of_task_{n % 10}") == n % 10, range(100)))


def test_missing_constants(workers: int) -> None:
    assert shared.getConst("missing") is None
    assert shared.getConst("missing", timeout=0) is None
    for error in (KeyError, cf.TimeoutError, shared.ConstantMissing):
        with pytest.raises(error, match="'missing'"):
            shared.get_const("missing", timeout=0.01)
    with pytest.raises(shared.ConstantMissing) as caught:
        futures.submit(shared.get_const, "missing", 0).result()
    assert caught.value.name == "missing"


def test_a_constant_that_somebody_waits_for(workers: int) -> None:
    with cf.ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(shared.get_const, "late", 30)
        futures.submit(square, 1).result()
        shared.set_const(late="here")
        assert waiting.result(30) == "here"


def test_constants_go_with_the_workers(nothing_left: str) -> None:
    for value in (1, 2):
        scoop.configure(workers=2)
        shared.set_const(name=value)
        assert futures.submit(read, "name").result() == value
        futures.shutdown()


# ----------------------------------------------------------------------------------------------- random


def draw(_: object = None) -> float:
    return scoop.rng().random()


def draw_tree(depth: int) -> list[float]:
    mine = [draw()]
    for child in [futures.submit(draw_tree, depth - 1) for _ in range(2 if depth else 0)]:
        mine += child.result()
    return [*mine, draw()]


def draw_all() -> list[Any]:
    return [
        draw(),
        futures.submit(draw).result(),
        list(futures.map(draw, range(500))),
        list(futures.map(draw, range(500), chunksize=7)),
        futures.map_reduce(lambda n: [draw(n)], operator.add, range(300)),
        futures.submit(draw_tree, 4).result(),
        scoop.rng(numpy=True).random(3).tolist(),
        scoop.numpy_rng().integers(1000, size=3).tolist(),
        draw(),
    ]


def flat(value: Any) -> list[float]:
    return [value] if not isinstance(value, list) else [x for part in value for x in flat(part)]


def test_random_numbers_do_not_depend_on_the_workers(nothing_left: str) -> None:
    seen = []
    for count, seed in ((1, 5), (2, 5), (3, 5), (2, 6)):
        scoop.configure(workers=count, seed=seed)
        seen.append(draw_all())
        futures.shutdown()
    assert seen[0] == seen[1] == seen[2]
    numbers = [x for x in flat(seen[0]) + flat(seen[3]) if isinstance(x, float)]
    assert len(set(numbers)) == len(numbers), "all streams are different"
    assert abs(statistics.mean(numbers) - 0.5) < 0.05


def test_random_numbers_of_one_task(workers: int) -> None:
    def task() -> list[float]:
        return [scoop.rng().random() for _ in range(3)]

    assert len({*futures.submit(task).result(), *futures.submit(task).result(), *task()}) == 9
    assert type(scoop.rng()) is random.Random


def test_random_numbers_in_threads(two: None) -> None:
    draw()
    with cf.ThreadPoolExecutor(2) as threads:
        numbers = list(threads.map(draw, range(10)))
    assert len({*numbers, draw()}) == 11


# ------------------------------------------------------------------------------------- the package itself


def about(_: object = None) -> tuple[str, bool, bool, int]:
    return scoop.worker, scoop.IS_ORIGIN, scoop.IS_RUNNING, scoop.SIZE


def test_live_attributes(two: None) -> None:
    assert not scoop.IS_RUNNING
    assert scoop.worker == "origin"
    assert scoop.IS_ORIGIN
    futures.submit(square, 1).result()
    assert about() == ("origin", True, True, 2)
    with scoop.Executor(2) as executor:
        seen = set(executor.map(about, range(30), chunksize=1))
    assert all(not is_origin and is_running and size == 2 for _, is_origin, is_running, size in seen)
    assert {name for name, *_ in seen} <= {"worker-0", "worker-1"}
    futures.shutdown()
    assert not scoop.IS_RUNNING


def test_no_switch(two: None) -> None:
    with scoop.no_switch():
        with scoop.no_switch():
            assert futures.submit(square, 3).result() == 9
        assert futures.join_all(*[futures.submit(square, n) for n in range(20)]) == [n * n for n in range(20)]


def test_logger() -> None:
    assert scoop.logger is logging.getLogger("scoop")


def test_records_of_workers_arrive(run: Callable[..., Any]) -> None:
    done = run("""
import logging, scoop
from scoop import futures

def work(n):
    scoop.logger.warning("warned %d", n)
    scoop.logger.info("told %d", n)

if __name__ == "__main__":
    scoop.logger.setLevel(logging.INFO)
    with scoop.Executor(1) as executor:
        list(executor.map(work, range(3)))
""")
    lines = done.stderr.splitlines()
    assert [line[line.index("worker-") :] for line in lines] == [
        f"worker-0 {text} {n}" for n in range(3) for text in ("WARNING warned", "INFO told")
    ]


def test_current_is_what_it_says() -> None:
    assert current.is_origin
