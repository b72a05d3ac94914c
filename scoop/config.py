"""Every option and limit, in one table.

The command line of ``scoop-run``, the environment variables, `scoop.configure` and their documentation are
generated from `OPTIONS`. A `Config` is one frozen set of values; `Config.load` reads the environment.

It is needed at a program's first call, so that it imports next to nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

FLAG = "flag"
COUNT = "count"
WHOLE = "whole number"
SECONDS = "seconds"
FOLDER = "folder"


class ConfigError(ValueError):
    """An option has a value that it cannot have; the text names the option, the value and what it may be."""


class Option:
    """One option or limit.

    Attributes:
        name: of the attribute of `Config`.
        kind: FLAG, COUNT (a flag that may be repeated), WHOLE, SECONDS or FOLDER (a path, made absolute).
        default: value without any setting; None means "found out when it is needed".
        least, most: bounds, both allowed; None for no bound.
        unit: of the number.
        help: one sentence for the command line and the documentation.
        environ: environment variable that sets it.
        flags: on the command line; empty for a limit that has none.
        value: what a flag on the command line sets.
    """

    __slots__ = ("default", "environ", "flags", "help", "kind", "least", "most", "name", "unit", "value")

    def __init__(
        self,
        name: str,
        kind: str,
        default: Any,
        help: str,
        *,
        flags: tuple[str, ...] = (),
        least: float | None = None,
        most: float | None = None,
        unit: str = "",
        value: Any = True,
    ) -> None:
        self.name = name
        self.kind = kind
        self.default = default
        self.help = help
        self.environ = "SCOOP_" + name.upper()
        self.flags = flags
        self.least = least
        self.most = most
        self.unit = unit
        self.value = value

    def parse(self, text: str, source: str) -> Any:
        """The value that `text` means; `source` (the variable or the flag) is named in the error."""
        if self.kind == FLAG:
            word = text.strip().lower()
            if word in ("1", "true", "yes", "on"):
                return True
            if word in ("0", "false", "no", "off", ""):
                return False
            _refuse(source, text, "1 or 0")
        if self.kind == FOLDER:
            return os.path.abspath(self.check(text, source))
        try:
            number: int | float = float(text) if self.kind == SECONDS else int(text, 0)
        except ValueError:
            _refuse(source, text, self.domain())
        return self.check(number, source)

    def check(self, value: Any, source: str) -> Any:
        """`value` itself if it is within the bounds."""
        if value is None:
            return self.default
        if self.kind == FLAG:
            if isinstance(value, bool):
                return value
            _refuse(source, value, "True or False")
        if self.kind == FOLDER:
            if isinstance(value, str) and value:
                return value
            _refuse(source, value, self.domain())
        allowed = (int, float) if self.kind == SECONDS else (int,)
        if not isinstance(value, allowed) or isinstance(value, bool) or value != value:
            _refuse(source, value, self.domain())
        if (self.least is not None and value < self.least) or (self.most is not None and value > self.most):
            _refuse(source, value, self.domain())
        return value

    def domain(self) -> str:
        """What it may be, in words."""
        if self.kind == FOLDER:
            return "the path of a directory"
        text = "a number" if self.kind == SECONDS else "a whole number"
        if self.unit:
            text += f" of {self.unit}"
        if self.least is not None and self.most is not None:
            return f"{text} from {self.least} to {self.most}"
        if self.least is not None:
            return f"{text}, at least {self.least}"
        return text


OPTIONS: tuple[Option, ...] = (
    Option(
        "workers",
        WHOLE,
        None,
        "processes that compute, the program itself included; default: the cores this process may use, "
        "by affinity mask and cgroup quota",
        flags=("-n", "--workers"),
        least=1,
        most=4000,
        unit="processes",
    ),
    Option(
        "seed",
        WHOLE,
        None,
        "what all generators of scoop.rng() derive from; default: a random one for each run",
        flags=("--seed",),
        least=-(1 << 127),
        most=(1 << 127) - 1,
    ),
    Option(
        "copy",
        FLAG,
        True,
        "do not copy mutable arguments and results of calls that run in the process that made them",
        flags=("--no-copy",),
        value=False,
    ),
    Option(
        "origin_idle",
        FLAG,
        False,
        "run no task in the program's own process, which a crashing task would take along",
        flags=("--origin-idle",),
    ),
    Option(
        "threads",
        WHOLE,
        None,
        "threads that numerical libraries (BLAS, OpenMP, numba) may start in each process; "
        "default: the cores divided by the workers",
        flags=("--threads",),
        least=1,
        most=4096,
        unit="threads",
    ),
    Option(
        "verbose", COUNT, 0, "say more of what scoop does; twice for more", flags=("-v", "--verbose"), least=0
    ),
    Option("quiet", FLAG, False, "show only errors of scoop", flags=("-q", "--quiet")),
    Option(
        "checkpoint",
        FOLDER,
        None,
        "directory in which every map that the program itself calls keeps its finished results, so that the "
        "next run continues where this one ended",
        flags=("--checkpoint",),
    ),
    Option(
        "crash_limit",
        WHOLE,
        3,
        "workers that one task may take down before its future fails with TaskCrashed",
        least=1,
        most=100,
        unit="workers",
    ),
    Option(
        "stop_grace",
        SECONDS,
        2.0,
        "time that workers have to leave at the end before they are killed",
        least=0.0,
        most=3600.0,
        unit="seconds",
    ),
    Option(
        "lease",
        SECONDS,
        60.0,
        "time after which a host that answers nothing, not even its kernel, counts as lost for those whose "
        "job's program runs there",
        least=20.0,
        most=600.0,
        unit="seconds",
    ),
    Option(
        "queue_bytes_max",
        WHOLE,
        1 << 30,
        "arguments that may wait in the program's process for a worker; whoever submits more runs, or waits "
        "for, a call that waits",
        least=0,
        most=1 << 60,
        unit="bytes",
    ),
    Option(
        "stopped_after",
        SECONDS,
        30.0,
        "time after which a worker that is stopped (kill -STOP, Ctrl-Z) is named in a warning",
        least=0.0,
        most=86400.0,
        unit="seconds",
    ),
    Option(
        "agent_restarts",
        WHOLE,
        3,
        "times that a host's agent is started again after it was killed",
        least=0,
        most=1000,
        unit="starts",
    ),
)

BY_NAME: dict[str, Option] = {option.name: option for option in OPTIONS}


class Config:
    """One frozen set of options. Make one with `load` or, from another one, with `with_values`.

    Example:
        >>> Config.load({"SCOOP_WORKERS": "4"}).workers
        4
    """

    __slots__ = tuple(BY_NAME)

    workers: int | None
    seed: int | None
    copy: bool
    origin_idle: bool
    threads: int | None
    verbose: int
    quiet: bool
    checkpoint: str | None
    crash_limit: int
    stop_grace: float
    lease: float
    queue_bytes_max: int
    stopped_after: float
    agent_restarts: int

    def __init__(self, **values: Any) -> None:
        for option in OPTIONS:
            object.__setattr__(self, option.name, values.pop(option.name, option.default))
        if values:
            raise TypeError(f"no such option: {', '.join(values)}")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a Config is frozen; make another one to set {name}")

    def __repr__(self) -> str:
        return f"Config({', '.join(f'{name}={getattr(self, name)!r}' for name in BY_NAME)})"

    @classmethod
    def load(cls, environ: Mapping[str, str] = os.environ) -> Config:
        """The defaults, overruled by environment variables. An empty variable counts as not set.

        Raises:
            ConfigError: a variable has a value that its option cannot have.
        """
        found = ((option, environ.get(option.environ, "")) for option in OPTIONS)
        return cls(**{option.name: option.parse(text, option.environ) for option, text in found if text})

    def with_values(self, **values: Any) -> Config:
        """A copy with other values, which are checked.

        Raises:
            ConfigError: one of them is out of bounds.
            TypeError: there is no such option.
        """
        merged = {name: getattr(self, name) for name in BY_NAME}
        for name, value in values.items():
            merged[name] = BY_NAME[name].check(value, name) if name in BY_NAME else value
        return Config(**merged)


def _refuse(source: str, value: object, domain: str) -> NoReturn:
    raise ConfigError(f"{source} must be {domain}, not {value!r}")


def environment_table() -> str:
    """The environment variables as a Markdown table, for the documentation."""
    lines = ["| variable | command line | meaning | default |", "|---|---|---|---|"]
    for option in OPTIONS:
        flags = ", ".join(f"`{flag}`" for flag in option.flags)
        # A switch that turns something off on the command line is named for what it turns off.
        meaning = f"0: {option.help}" if option.value is False else option.help
        default = "" if option.default is None else f"{option.default}"
        lines.append(f"| `{option.environ}` | {flags} | {meaning} | {default} |")
    return "\n".join(lines) + "\n"
