"""``scoop-run`` and ``python -m scoop``: options, then the program, in this process.

The program runs as ``__main__`` with its own arguments, as ``python program.py`` would run it; workers start
at its first call. Exit status, ``sys.exit`` and tracebacks are its own: no frame of ours is in them.
"""

from __future__ import annotations

import os
import sys

from scoop.config import COUNT, FLAG, FOLDER, OPTIONS, ConfigError
from scoop.errors import CheckpointError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from scoop.config import Option

LATER = ("--backend",)
"""Options of versions to come. They are refused by name: an option that does nothing would be a lie."""


ALIASES = {
    "--host": "--hosts",
    "--external-hostname": "--broker-hostname",
    "--python-interpreter": "--python-executable",
    "-N": "-n",
    "-b": "--brokers",
}
"""Other spellings, those of SCOOP 0.7 among them."""

HOSTS_HELP = (
    "where to run: node1 node[2-4] user@node5:2222 node6*8 (so many workers there); 127.0.0.1 is this host"
)
LAUNCH = {
    "--hostfile": ("FILE", "hosts from a file: one a line, with a count behind it if you like"),
    "--brokers": ("N", "so many hosts have a broker, the workers of others go to those; default: each; -b N"),
    "--broker-hostname": ("NAME", "under which the other hosts reach this one; default: found out"),
    "--path": ("FOLDER", "working directory on the other hosts; default: this one"),
    "--python-executable": ("FILE", "Python on all hosts; default: the one that runs this"),
    "--pythonpath": ("FOLDER", "put before the module search path of the workers"),
    "--prolog": ("TEXT", "line of shell to run on the other hosts before anything else"),
    "--ssh-executable": ("COMMAND", "in place of ssh, with its own arguments"),
    "--nice": ("N", "lower the priority of everything on all hosts"),
    "--profile": ("FOLDER", "write a profile of each process there, to be read with pstats"),
    "--allow-missing": ("N", "go on if up to so many hosts cannot be started; default: 0"),
    "--join-file": ("FILE", "write FILE, with which scoop-worker --join FILE adds workers of any host"),
}
"""Options for several hosts: flag, what its value is, and what it says."""

TUNNEL_HELP = "let everything between the hosts go through ssh; no port is opened"

RANK_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_STEP_ID")
"""Any of them may mean that a launcher has started this process beside others."""

BATCH_VARIABLES = (
    "SLURM_JOB_ID",
    "SLURM_JOBID",
    "PE_HOSTFILE",
    "SGE_TASK_ID",
    "PBS_JOBID",
    "PBS_NODEFILE",
    "LSB_JOBID",
    "LSB_MCPU_HOSTS",
)
"""Any of them may mean that this is a batch job; only then is more imported to find out."""


class CommandError(Exception):
    """The command line makes no sense; the text says why."""


class Command:
    """A command line, understood.

    Attributes:
        values: of the options that were given.
        module: the name behind -m, or None.
        program: path of the program; empty with a module.
        arguments: everything behind it.
    """

    def __init__(self) -> None:
        self.values: dict[str, object] = {}
        self.module: str | None = None
        self.program = ""
        self.arguments: list[str] = []
        self.wants: str = ""
        self.hosts: list[str] = []
        self.launch: dict[str, str] = {}
        self.check = False
        self.explain: str | None = None


def parse(argv: Sequence[str]) -> Command:
    """Understand the arguments behind the command's name. What follows the program is the program's own.

    Raises:
        CommandError: an option is unknown, not in this version, lacks its value, or there is no program.
        ConfigError: an option's value is out of bounds.
    """
    command = Command()
    by_flag = {flag: option for option in OPTIONS for flag in option.flags}
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word in ("-h", "--help", "--version"):
            command.wants = word.lstrip("-")[0]
            return command
        if word == "--":
            break
        if word == "-m" or (word.startswith("-m") and not word.startswith("--")):
            command.module = _value(word, word[2:], rest)
            command.arguments = rest
            return command
        if not word.startswith("-") or word == "-":
            rest.insert(0, word)
            break
        _option(word, by_flag, command, rest)
    if rest and command.explain is not None:
        raise CommandError("--explain runs no program: it takes the process id of one that runs, or nothing")
    if not rest and (command.check or command.explain is not None):
        return command
    if not rest:
        raise CommandError("there is no program to run")
    if rest[0] == "-":
        raise CommandError("a program cannot be read from standard input; give it a file")
    command.program, command.arguments = rest[0], rest[1:]
    return command


def _option(word: str, by_flag: dict[str, Option], command: Command, rest: list[str]) -> None:
    name, equals, given = word.partition("=") if word.startswith("--") else (word[:2], "", word[2:])
    name = ALIASES.get(name, name)
    if name == "--hosts":
        command.hosts += [given] if given else _host_words(rest)
        return
    if name in LAUNCH:
        command.launch[name] = given if equals else _value(name, given, rest)
        return
    if name == "--rsh":
        raise CommandError(
            "--rsh: rsh proves nobody's identity, and keys travel on that way. Leave it out for ssh, or name "
            "a command that understands the options of ssh with --ssh-executable"
        )
    if name in ("--tunnel", "--check") and equals:
        raise CommandError(f"{name} takes no value")
    if name == "--tunnel":
        command.launch[name] = "1"
        return
    if name == "--check":
        command.check = True
        return
    if name == "--explain":
        command.explain = given if equals else rest.pop(0) if rest and rest[0].isdigit() else ""
        return
    if name in LATER:
        raise CommandError(f"{name} is not in this version yet")
    option = by_flag.get(name)
    if option is None:
        raise CommandError(f"unknown option {name}")
    if option.kind in (FLAG, COUNT):
        if equals:
            raise CommandError(f"{name} takes no value")
        if option.kind == COUNT:
            command.values[option.name] = int(str(command.values.get(option.name, 0))) + 1
        else:
            command.values[option.name] = option.value
        if given:  # -vq, -vv
            _option("-" + given, by_flag, command, rest)
        return
    text = given if equals else _value(name, given, rest)
    command.values[option.name] = option.parse(text, name)


def _host_words(rest: list[str]) -> list[str]:
    """Take the hosts behind --hosts: all words up to the next option or the program."""
    words = []
    while (
        rest and not rest[0].startswith("-") and not rest[0].endswith(".py") and not os.path.exists(rest[0])
    ):
        words.append(rest.pop(0))
    if not words:
        raise CommandError("--hosts needs at least one host")
    return words


def _value(name: str, given: str, rest: list[str]) -> str:
    if given:
        return given
    if not rest:
        raise CommandError(f"{name[:2] if not name.startswith('--') else name} needs a value")
    return rest.pop(0)


def usage() -> str:
    """The text of --help, from the table of options."""
    import textwrap

    lines = [
        "usage: scoop-run [options] program.py [arguments]",
        "       scoop-run [options] -m module [arguments]",
        "       python -m scoop ...  (the same)",
        "",
        "Runs a program that uses scoop.futures with workers on the cores of this host, or of several.",
        "",
        "options:",
    ]
    for option in OPTIONS:
        if option.flags:
            metavar = "" if option.kind in (FLAG, COUNT) else " DIR" if option.kind == FOLDER else " N"
            lines.append("  " + ", ".join(flag + metavar for flag in option.flags))
            lines += textwrap.wrap(f"{option.help} [{option.environ}]", 78, initial_indent=" " * 6,
                                   subsequent_indent=" " * 6, break_on_hyphens=False)  # fmt: skip
    lines += ["", "several hosts:"]
    for flag, (metavar, text) in {"--hosts": ("HOST ...", HOSTS_HELP), **LAUNCH}.items():
        lines.append(f"  {flag} {metavar}")
        lines += textwrap.wrap(text, 78, initial_indent=" " * 6, subsequent_indent=" " * 6,
                               break_on_hyphens=False)  # fmt: skip
    lines += [
        "  --tunnel",
        f"      {TUNNEL_HELP}",
        "  --check",
        "      run nothing: show what each host has, or what to mend before a program can run there",
        "",
        "a job that runs:",
        "  --explain [PID]",
        "      run nothing: show what your jobs on this host do, or that of process PID, what waits, and why",
        "",
        "other:",
        "  -m module",
        "      run a module, as python -m does",
        "  --version",
        "  -h, --help",
        "",
    ]
    lines += ["Each option can also be set by the environment variable in brackets. More of these:"]
    for option in OPTIONS:
        if not option.flags:
            text = f"{option.environ}: {option.help} (default {option.default})"
            lines += textwrap.wrap(text, 78, initial_indent="  ", subsequent_indent=" " * 6)
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a program as the command line says.

    Args:
        argv: the arguments; those of this process if None.

    Returns:
        The exit status for the process: 0, or 2 for a command line that makes no sense. What the program
        itself raises (SystemExit included) goes through.
    """
    try:
        command = parse(sys.argv[1:] if argv is None else argv)
        if command.wants == "h":
            sys.stdout.write(usage())
            return 0
        if command.wants == "v":
            from scoop import __version__

            print("scoop", __version__)
            return 0
        if command.explain is not None:
            from scoop.launch import explain

            return explain.main(command.explain)
        several_hosts = command.hosts or command.launch or any(name in os.environ for name in BATCH_VARIABLES)
        if command.values.get("origin_idle") and command.values.get("workers") == 1 and not several_hosts:
            raise CommandError("--origin-idle: somebody else must compute, so it takes -n 2 at least")
        from scoop import current

        config = current.preset(command.values)
        if "--profile" in command.launch:
            from scoop.launch import profiling

            current.profile_folder = profiling.prepare(command.launch["--profile"])
        if command.check:
            from scoop.launch import several

            return several.check(command.hosts, command.launch)
        # Workers may be started before the program begins, and are to see its arguments.
        sys.argv[:] = [command.module or command.program, *command.arguments]
        if any(name in os.environ for name in RANK_VARIABLES):
            from scoop.launch import several

            status = several.take_rank(command.hosts, command.launch)
            if status is not None:
                return status
        # Only now: other ranks, whose hosts need not have that folder, do not come here.
        if config.checkpoint:
            from scoop.checkpoint import check_folder

            check_folder(config.checkpoint)
        started = current.session is not None
        if not started and several_hosts:
            from scoop.launch import several

            if not several.begin(command.hosts, command.launch):
                return 1
        if current.profile_folder:
            profiling.begin_program(current.profile_folder)
    except (CommandError, ConfigError, CheckpointError) as error:
        print(f"scoop-run: {error}\nTry: scoop-run --help", file=sys.stderr)
        return 2
    from scoop.launch import program

    return program.run(command.program, command.module, command.arguments)


def _exit() -> NoReturn:
    sys.exit(main())


if __name__ == "__main__":
    _exit()
