"""What the origin of a job on several hosts tells each agent to start."""

from __future__ import annotations

import logging
import os
import sys

from scoop.launch import logs
from scoop.launch.origin import place_of_profiles
from scoop.launch.vigil import ENDED_LOOKS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from scoop.config import Config
    from scoop.launch.hostlink import HostLink
    from scoop.launch.link import Message
    from scoop.launch.remote import Way

PRELOAD = ("scoop.launch.boot", "scoop.future", "scoop.current")

log = logging.getLogger("scoop")


def start(host: HostLink, way: Way, config: Config, broker: dict[str, Any], job: dict[str, Any]) -> Message:
    """The message that starts the workers of a host, and its broker if it has one of its own.

    Args:
        host: whose agent has said hello.
        way: how things are started there.
        config: options of the job.
        broker: bind and name of this host's (elsewhere they are found out), origin and seed, as of
            `boot.broker_main`.
        job: seed, copy and size, as of `boot.worker_main`.
    """
    from scoop import current
    from scoop.launch import cores
    from scoop.launch.boot import ENTRY

    assert host.hello is not None
    processes = host.workers + (1 if host.share.local else 0)
    caps = cores.thread_caps(max(processes, 1), host.hello["cores"], os.environ, threads=config.threads)
    tunnel = way.tunnel.folder if way.tunnel is not None else ""
    of_broker = {**broker, "number": host.number, "tunnel": bool(tunnel), "lease": config.lease}
    of_broker["again"] = host.by_ssh
    if host.share.local:
        of_broker.update(keys=host.keys)
    else:
        of_broker.update(bind="", name="")
    of_broker["before"] = host.before()
    return {
        "op": "start",
        "count": host.workers,
        "entry": ENTRY,
        "preload": list(PRELOAD),
        "env": caps,
        "sys_path": [*filter(None, [way.pythonpath]), *sys.path],
        "cwd": way.folder,
        "broker": of_broker if host.leads else None,
        "spec": {
            **job,
            "argv": current.argv_for_workers(),
            "base": host.base,
            "home": host.leader.number,
            "broker": (host.leader.broker or {}).get("address" if host.far else "local", ""),
            "door": _door(host, config) if host.far else None,
            "host": host.hello["host"] if host.leads or host.far else host.name,
            "initializer": b"",
            "run_dirs": [tunnel] if host.share.local and tunnel else [],
            "level": log.getEffectiveLevel(),
            "levels": logs.describe(),
            "stopped_after": config.stopped_after,
            "profile": place_of_profiles("" if host.share.local else host.name),
        },
    }


def _door(host: HostLink, config: Config) -> dict[str, Any]:
    """How workers connect to a broker on another host; their agent makes the keys."""
    assert host.leader.broker is not None
    return {
        "public": host.leader.broker["public"],
        "lease_s": config.lease,
        "grace_s": config.stop_grace,
        "looks": ENDED_LOOKS,
    }
