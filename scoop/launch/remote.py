"""How an agent is started on a host: the command, and the process that connects us with it.

One command for each host: the batch system's own launcher in its jobs, else ssh as the user's configuration
says: host keys are checked, nothing is asked.
The remote side gets this process's PATH, LD_LIBRARY_PATH, virtual environment and working directory.
"""

from __future__ import annotations

import os
import shlex
import sys

from scoop.launch.link import JOB_VARIABLE
from scoop.launch.spawn import DEFAULT_SIGNALS, AgentHandle, interpreter_flags, roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scoop.launch.hosts import Host
    from scoop.launch.launchers import Launcher
    from scoop.launch.tunnel import Tunnel

CONNECT_S = 5
ALIVE_S, ALIVE_TIMES = 5, 3
"""After how many seconds ssh asks a silent host whether it is there, and how often before it gives it up."""

KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "CONDA_PREFIX", "LANG", "LC_ALL")
_PROGRAM = (
    "import sys;sys.path[:]=list(filter(None,sys.path))+sys.argv[2:];"
    "from scoop.launch.hostagent import main;main(int(sys.argv[1]))"
)
_RELINK = (
    "import sys;sys.path[:]=list(filter(None,sys.path))+sys.argv[2:];"
    "from scoop.launch.relink import main;main(sys.argv[1])"
)
_SWEEP = (
    "import sys;sys.path[:]=list(filter(None,sys.path))+sys.argv[2:];"
    "from scoop.launch.process import sweep_job;sweep_job(sys.argv[1])"
)


class Way:
    """How to start something on other hosts.

    Args:
        executable: Python there; that of this process if empty.
        ssh: the command in place of ``ssh``, with its own arguments.
        prolog: lines of shell to run before.
        nice: by how much to lower the priority there.
        folder: working directory there; that of this process if empty.
        pythonpath: put before the module search path there.
        launcher: of the batch system, in place of ssh.

    Attributes:
        tunnel: through which everything goes; None: hosts reach each other by TCP.
    """

    def __init__(
        self,
        executable: str = "",
        ssh: str = "",
        prolog: str = "",
        nice: int = 0,
        folder: str = "",
        pythonpath: str = "",
        launcher: Launcher | None = None,
    ) -> None:
        self.executable = executable or sys.executable
        self.ssh = shlex.split(ssh) or ["ssh"]
        self.prolog = prolog
        self.nice = nice
        self.folder = folder or os.getcwd()
        self.pythonpath = pythonpath
        self.launcher = launcher
        self.tunnel: Tunnel | None = None

    def agent(self, origin: int) -> list[str]:
        """The agent's command line; `origin` as of `hostagent.main`."""
        nice = ["nice", "-n", str(self.nice)] if self.nice else []
        return [*nice, *self._python(_PROGRAM, str(origin))]

    def script(self, job: str, environ: Mapping[str, str] = os.environ) -> str:
        """The shell text that runs the agent on another host, and clears up after one that was killed.

        Args:
            job: its mark in the environment, no other agent's.
            environ: where the variables are taken from that go along.
        """
        kept = self._kept(environ)
        lines = self._first_lines()
        # A trap that is no "ignore" is not inherited: a signal to all is for the agent, which ends first.
        # The shell says "Killed" where ssh may have ended, and is to live on.
        lines.append("trap : TERM HUP INT PIPE")
        lines.append(shlex.join(["env", *kept, f"{JOB_VARIABLE}={job}", *self.agent(0)]))
        sweep = shlex.join(["env", *kept, *self._python(_SWEEP, job)])
        lines.append(f"status=$?; [ $status -le 128 ] || {sweep}; exit $status")
        return "\n".join(lines)

    def relink_script(self, folder: str, environ: Mapping[str, str] = os.environ) -> str:
        """The shell text that makes another link to the agent whose run directory is `folder`."""
        return "\n".join(
            [
                *self._first_lines(),
                shlex.join(["exec", "env", *self._kept(environ), *self._python(_RELINK, folder)]),
            ]
        )

    def _kept(self, environ: Mapping[str, str]) -> list[str]:
        return [f"{name}={environ[name]}" for name in KEPT_VARIABLES if environ.get(name)]

    def _first_lines(self) -> list[str]:
        lines = [self.prolog] if self.prolog else []
        return [*lines, f"cd {shlex.quote(self.folder)} 2>/dev/null || cd /"]

    def _python(self, program: str, argument: str) -> list[str]:
        return [self.executable, *interpreter_flags(), "-c", program, argument, *roots()]

    def to(self, host: Host, job: str, number: int = 0) -> list[str]:
        """The command that starts the agent on another host.

        Args:
            host: where.
            job: hex id in the environment of all that is started.
            number: of its broker, for the tunnel; without it there is none.
        """
        return self._run_on(host, self.script(job), number)

    def again(self, host: Host, folder: str) -> list[str]:
        """The command that makes another link to the agent of a host, whose run directory is `folder`."""
        return self._run_on(host, self.relink_script(folder), 0)

    def _run_on(self, host: Host, script: str, number: int) -> list[str]:
        # Some login shells are no Bourne shells.
        line = shlex.join(["/bin/sh", "-c", script])
        if self.launcher is not None:
            return self.launcher.command(host, line)
        port = ["-p", str(host.port)] if host.port else []
        options = ["-T", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_S}"]
        options += ["-o", f"ServerAliveInterval={ALIVE_S}", "-o", f"ServerAliveCountMax={ALIVE_TIMES}"]
        if self.tunnel is not None and number:
            options += self.tunnel.options(number)
        return [*self.ssh, *options, *port, host.target, line]


def connect(command: Sequence[str], job: str) -> tuple[AgentHandle, int]:
    """Start a command whose standard input and output are an agent's link.

    Returns:
        The handle, and a descriptor from which its standard error can be read.

    Raises:
        OSError: the command cannot be started.
    """
    from _socket import socketpair

    ours, theirs = (end.detach() for end in socketpair())
    read_end, write_end = os.pipe()
    try:
        pid = os.posix_spawnp(
            command[0],
            list(command),
            {**os.environ, JOB_VARIABLE: job},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, theirs, 0),
                (os.POSIX_SPAWN_DUP2, theirs, 1),
                (os.POSIX_SPAWN_DUP2, write_end, 2),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=DEFAULT_SIGNALS,
        )
    except OSError as error:
        os.close(ours)
        os.close(read_end)
        raise OSError(error.errno, f"{command[0]}: {error.strerror}") from None
    finally:
        os.close(theirs)
        os.close(write_end)
    return AgentHandle(pid, ours, job), read_end
