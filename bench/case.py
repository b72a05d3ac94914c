"""The case program: one workload on one library, one JSON line on standard output.

Started by the harness with the order as its only argument. A failure is an answer too, with its reason.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

WORKLOADS = {
    "roundtrip": "bench.cases.noops",
    "throughput": "bench.cases.noops",
    "bulk_map": "bench.cases.noops",
    "stages": "bench.cases.noops",
    "burned": "bench.cases.busy",
    "burned_on_word": "bench.cases.busy",
    "thrown": "bench.cases.busy",
    "tree": "bench.cases.busy",
    "echoed": "bench.cases.payload",
    "sent": "bench.cases.payload",
    "shared": "bench.cases.payload",
    "idle": "bench.cases.memory",
    "queued": "bench.cases.memory",
    "soak": "bench.cases.memory",
    "local": "bench.cases.local",
}


def measure(order: dict[str, Any]) -> dict[str, Any]:
    """Start the library, run the workload, end the library."""
    name, workers, params = order["peer"], order["workers"], order["params"]
    if name == "bare":
        from bench.cases import bare

        return bare.measure(order["workload"], params, workers)
    from bench import peers

    workload = getattr(importlib.import_module(WORKLOADS[order["workload"]]), order["workload"])
    peer = peers.START[name](workers)
    try:
        result: dict[str, Any] = workload(peer, params, workers)
    finally:
        peer.close()
    return result


def main() -> None:
    """Answer the order in the first argument."""
    try:
        answer = {"ok": True, "result": measure(json.loads(sys.argv[1]))}
    except Exception as error:
        answer = {"ok": False, "error": f"{type(error).__name__}: {error}"[:500]}
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
