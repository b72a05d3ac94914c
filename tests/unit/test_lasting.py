"""Digests that mean the same in another process: equal for what does the same, else different."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
import types
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import scoop
from scoop import pickling
from scoop.errors import NotPicklableError
from scoop.pickling.lasting import dumps_lasting, lasting_digest, lasting_function_digest


def module(source: str) -> dict[str, Any]:
    """The globals of a module with this source."""
    made = types.ModuleType("made")
    exec(source, made.__dict__)
    return made.__dict__


def of(source: str) -> bytes:
    """The digest of `f` in a module."""
    return lasting_function_digest(module(source)["f"])


BASE = "def f(x): return x + 1"


@pytest.mark.parametrize(
    "other",
    [
        "\n\n# a comment\ndef f(x):\n    return x + 1\n",
        "unrelated = 5\ndef f(x): return x + 1\n",
        "def g(x): return x\ndef f(x): return x + 1\n",
    ],
)
def test_what_does_the_same_is_the_same(other: str) -> None:
    assert of(other) == of(BASE)


CHANGES = {
    "code": (BASE, "def f(x): return x - 1"),
    "constant": (BASE, "def f(x): return x + 2"),
    "type of a constant": ("def f(x): return 1", "def f(x): return 1.0"),
    "default": ("def f(x, y=1): return x + y", "def f(x, y=2): return x + y"),
    "keyword default": ("def f(x, *, y=1): return x + y", "def f(x, *, y=2): return x + y"),
    "code inside": ("def f(x): return [y + 1 for y in x]", "def f(x): return [y + 2 for y in x]"),
    "name of an attribute": ("def f(x): return x.a", "def f(x): return x.b"),
    "captured": (
        "def make(n):\n def f(x): return x + n\n return f\nf = make(1)",
        "def make(n):\n def f(x): return x + n\n return f\nf = make(2)",
    ),
    "helper": ("def g(x): return 1\ndef f(x): return g(x)", "def g(x): return 2\ndef f(x): return g(x)"),
    "helper of a helper": (
        "def h(): return 1\ndef g(): return h()\ndef f(x): return g()",
        "def h(): return 2\ndef g(): return h()\ndef f(x): return g()",
    ),
    "global constant": ("N = 1\ndef f(x): return x + N", "N = 2\ndef f(x): return x + N"),
    "method of a class it uses": (
        "class C:\n def go(self): return 1\ndef f(x): return C().go()",
        "class C:\n def go(self): return 2\ndef f(x): return C().go()",
    ),
    "method of a base": (
        "class B:\n def go(self): return 1\nclass C(B): pass\ndef f(x): return C().go()",
        "class B:\n def go(self): return 2\nclass C(B): pass\ndef f(x): return C().go()",
    ),
    "property": (
        "class C:\n @property\n def p(self): return 1\ndef f(x): return C().p",
        "class C:\n @property\n def p(self): return 2\ndef f(x): return C().p",
    ),
    "attribute": (BASE + "\nf.mode = 1", BASE + "\nf.mode = 2"),
    "partial": (
        "import functools\nf = functools.partial(pow, 2)",
        "import functools\nf = functools.partial(pow, 3)",
    ),
    "function in a partial": (
        "import functools\ndef g(x): return 1\nf = functools.partial(g)",
        "import functools\ndef g(x): return 2\nf = functools.partial(g)",
    ),
    "cached": (
        "import functools\n@functools.lru_cache\ndef f(x): return 1",
        "import functools\n@functools.lru_cache\ndef f(x): return 2",
    ),
    "method": (
        "class C:\n def go(self, x): return 1\nf = C().go",
        "class C:\n def go(self, x): return 2\nf = C().go",
    ),
    "state of a bound object": (
        "class C:\n def go(self, x): return self.n\nc = C(); c.n = 1; f = c.go",
        "class C:\n def go(self, x): return self.n\nc = C(); c.n = 2; f = c.go",
    ),
    "what a method calls": (
        "class C:\n def a(self): return 1\n def go(self, x): return self.a()\nf = C().go",
        "class C:\n def a(self): return 2\n def go(self, x): return self.a()\nf = C().go",
    ),
    "callable object": (
        "class C:\n def __call__(self, x): return 1\nf = C()",
        "class C:\n def __call__(self, x): return 2\nf = C()",
    ),
    "constructor": (
        "class f:\n def __init__(self, x): self.x = 1",
        "class f:\n def __init__(self, x): self.x = 2",
    ),
    "builtin": ("f = abs", "f = len"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_seen(name: str) -> None:
    before, after = CHANGES[name]
    assert of(before) == of(before)
    assert of(before) != of(after)


def test_functions_that_lead_back_to_themselves() -> None:
    loop = "def f(x): return g(x)\ndef g(x): return f(x) + {}\n"
    assert of(loop.format(1)) == of(loop.format(1)) != of(loop.format(2))
    own = "class C:\n def again(self): return C()\n n = {}\ndef f(x): return C()\n"
    assert of(own.format(1)) == of(own.format(1)) != of(own.format(2))


def test_more_counts_too() -> None:
    assert lasting_function_digest(abs, 1) != lasting_function_digest(abs, 2)


def test_values() -> None:
    distinct: list[Any] = [
        1,
        True,
        1.0,
        "1",
        b"1",
        0.0,
        -0.0,
        None,
        (1,),
        [1],
        {1},
        frozenset({1}),
        {1: 2},
        {2: 1},
        [[1], 2],
        [[1, 2]],
        {"a": [1]},
        abs,
        int,
        functools.partial(abs, 1),
        CHANGES,
    ]
    assert len({lasting_digest(value) for value in distinct}) == len(distinct)


def test_identity_and_order_do_not_count() -> None:
    text = "".join(["sp", "am"])
    assert lasting_digest([text, text]) == lasting_digest(["spam", "".join(["s", "pam"])])
    shared = [1]
    assert lasting_digest([shared, shared]) == lasting_digest([[1], [1]])
    assert lasting_digest({"a", "b", "c"}) == lasting_digest({"c", "b", "a"})
    assert lasting_digest([{(1, "x"), (2, "y")}]) == lasting_digest([{(2, "y"), (1, "x")}])


def test_a_list_that_holds_itself() -> None:
    def make(n: int) -> list[Any]:
        value: list[Any] = [n]
        value.append(value)
        return value

    assert lasting_digest(make(1)) == lasting_digest(make(1)) != lasting_digest(make(2))


def test_arrays() -> None:
    np = pytest.importorskip("numpy")
    assert lasting_digest(np.arange(5)) == lasting_digest(np.arange(5))
    assert lasting_digest(np.arange(5)) != lasting_digest(np.arange(6))
    assert lasting_digest(np.arange(5)) != lasting_digest(np.arange(5.0))
    assert lasting_digest(np.zeros(20000)) != lasting_digest(np.ones(20000))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_a_copy_has_the_same_digest(value: Any) -> None:
    assert lasting_digest(pickling.loads(pickling.dumps(value))) == lasting_digest(value)
    assert pickling.loads(dumps_lasting(value)) == value


def test_what_cannot_be_pickled_says_so() -> None:
    lock = threading.Lock()
    with pytest.raises(NotPicklableError):
        lasting_digest([lock])
    with pytest.raises(NotPicklableError):
        lasting_function_digest(functools.partial(print, lock))
    with pytest.raises(NotPicklableError):
        dumps_lasting(lock)


def test_local_things_have_lasting_bytes() -> None:
    class Local:
        n = 3

    value = Local()
    value.n = 4
    assert pickling.loads(dumps_lasting(value)).n == 4
    assert pickling.loads(dumps_lasting(lambda x: x + 1))(1) == 2
    assert lasting_digest(value)


PROGRAM = """
import dataclasses, enum
from scoop.pickling.lasting import lasting_digest, lasting_function_digest

class Colour(enum.Enum):
    RED = 1

@dataclasses.dataclass
class Point:
    x: int
    tags: set = dataclasses.field(default_factory=set)
    def far(self, colours=frozenset({"a", "b", "c", "d"})):
        return self.x in {"p", "q", "r", "s"} or Colour.RED

def helper(x): return {"k%d" % n for n in range(x)}
def f(x): return Point(x, helper(x)).far()

for value in [{"a", "b", "c", "d"}, Point(1, {"x", "y", "z"}), {"k": Colour.RED}, [1.5, (None, b"x")]]:
    print(lasting_digest(value).hex())
for fn in [f, Point, Point(2).far, lambda x: helper(x)]:
    print(lasting_function_digest(fn).hex())
"""


def test_digests_are_the_same_in_every_process() -> None:
    root = os.path.dirname(os.path.dirname(os.path.abspath(scoop.__file__)))
    said = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": root},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(said) == 1
    lines = said.pop().split()
    assert len(set(lines)) == len(lines) == 8
