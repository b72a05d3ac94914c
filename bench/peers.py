"""One small face for every library that runs the same workloads.

A class here starts its library the way its manual shows for a program on one host, and binds ``submit``
to the library's own method, so that no call of ours is measured with it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

Tree = Callable[[int, int, int], tuple[int, int]]


class Peer:
    """A started library. ``submit`` is set by each class; a handle has ``result()`` unless said otherwise."""

    submit: Any
    tree: Tree | None = None
    counts_client = False
    """Whether the process that submits is one of the workers."""

    def result(self, handle: Any) -> Any:
        """Wait for one task."""
        return handle.result()

    def gather(self, handles: list[Any]) -> list[Any]:
        """Wait for all tasks, in order."""
        return [handle.result() for handle in handles]

    def map(self, function: Callable[..., Any], items: Iterable[Any], chunk: int | None) -> list[Any]:
        """The library's own bulk call; ``chunk`` None leaves its default alone."""
        raise NotImplementedError

    def close(self) -> None:
        """End the workers."""


class Executors(Peer):
    """Anything with the interface of ``concurrent.futures.Executor``."""

    def __init__(self, executor: Any) -> None:
        self.executor = executor
        self.submit = executor.submit

    def map(self, function: Callable[..., Any], items: Iterable[Any], chunk: int | None) -> list[Any]:
        tuned = {} if chunk is None else {"chunksize": chunk}
        return list(self.executor.map(function, items, **tuned))

    def close(self) -> None:
        self.executor.shutdown()


class ScoopFutures(Peer):
    """The module-level futures: the origin is one of the workers."""

    counts_client = True

    def __init__(self, workers: int) -> None:
        import scoop
        from scoop import futures

        scoop.configure(workers=workers)
        self._bind(futures)

    def _bind(self, futures: Any) -> None:
        from bench.trees_scoop import scoop_tree

        self._futures = futures
        self.submit = futures.submit
        self.tree = scoop_tree

    def map(self, function: Callable[..., Any], items: Iterable[Any], chunk: int | None) -> list[Any]:
        tuned = {} if chunk is None else {"chunksize": chunk}
        return list(self._futures.map(function, items, **tuned))

    def close(self) -> None:
        self._futures.shutdown()


class Launched(ScoopFutures):
    """The module-level futures of any version under its launcher, which starts and ends the workers."""

    def __init__(self, workers: int) -> None:
        import scoop
        from scoop import futures

        futures.submit(abs, -1).result()  # a launcher may start the workers at the first call
        if not scoop.IS_RUNNING:
            raise RuntimeError("not started by its launcher")
        self._bind(futures)

    def close(self) -> None:
        """Nothing to do: the launcher ends the workers with the program."""


def scoop_executor(workers: int) -> Peer:
    """The executor of scoop: every call in a worker process, none in the caller."""
    import scoop

    return Executors(scoop.Executor(max_workers=workers))


def standard_pool(method: str) -> Callable[[int], Peer]:
    """``concurrent.futures.ProcessPoolExecutor`` with a start method."""

    def start(workers: int) -> Peer:
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context

        return Executors(ProcessPoolExecutor(workers, mp_context=get_context(method)))

    return start


class MultiprocessingPool(Peer):
    """``multiprocessing.Pool``, forked."""

    def __init__(self, workers: int) -> None:
        from multiprocessing import get_context

        self.pool = get_context("fork").Pool(workers)

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        """Its call takes the arguments as one tuple."""
        return self.pool.apply_async(function, args)

    def result(self, handle: Any) -> Any:
        return handle.get()

    def gather(self, handles: list[Any]) -> list[Any]:
        return [handle.get() for handle in handles]

    def map(self, function: Callable[..., Any], items: Iterable[Any], chunk: int | None) -> list[Any]:
        return self.pool.map(function, items, chunk)

    def close(self) -> None:
        self.pool.close()
        self.pool.join()


def loky_pool(workers: int) -> Peer:
    """loky's own executor."""
    from loky import ProcessPoolExecutor

    return Executors(ProcessPoolExecutor(max_workers=workers))


def mpi_pool(workers: int) -> Peer:
    """mpi4py's executor; the number of workers is what ``mpirun`` was told."""
    from mpi4py.futures import MPIPoolExecutor

    return Executors(MPIPoolExecutor())


class Dask(Peer):
    """dask.distributed with one thread per worker process, so that each has a GIL of its own.

    Where ``BENCH_DASK_SCHEDULER`` has an address, its scheduler and workers run already.
    """

    def __init__(self, workers: int) -> None:
        import dask
        from distributed import Client, LocalCluster

        from bench.trees import dask_tree

        dask.config.set({"distributed.admin.large-graph-warning-threshold": "1GB"})
        address = os.environ.get("BENCH_DASK_SCHEDULER")
        self.cluster = None
        if address is None:
            self.cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,
                silence_logs=40,
            )
        self.client = Client(self.cluster or address)
        self.client.wait_for_workers(workers, timeout=60)
        self.tree = dask_tree

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        """``pure=False``: otherwise equal calls are run once."""
        return self.client.submit(function, *args, pure=False)

    def gather(self, handles: list[Any]) -> list[Any]:
        return list(self.client.gather(handles))

    def map(self, function: Callable[..., Any], items: Iterable[Any], chunk: int | None) -> list[Any]:
        return self.gather(self.client.map(function, list(items), pure=False))

    def close(self) -> None:
        self.client.close()
        if self.cluster is not None:
            self.cluster.close()


class Ray(Peer):
    """ray on this host; a function is made remote once."""

    def __init__(self, workers: int) -> None:
        import ray

        from bench.trees import ray_tree

        ray.init(num_cpus=workers, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
        self._ray = ray
        self._remote: dict[Callable[..., Any], Any] = {}
        self.tree = ray_tree

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        """Looks the remote form of the function up."""
        remote = self._remote.get(function)
        if remote is None:
            remote = self._remote[function] = self._ray.remote(function)
        return remote.remote(*args)

    def result(self, handle: Any) -> Any:
        return self._ray.get(handle)

    def gather(self, handles: list[Any]) -> list[Any]:
        return list(self._ray.get(handles))

    def map(self, function: Callable[..., Any], items: Iterable[Any], chunk: int | None) -> list[Any]:
        return self.gather([self.submit(function, item) for item in items])

    def close(self) -> None:
        self._ray.shutdown()


START: dict[str, Callable[[int], Peer]] = {
    "scoop": ScoopFutures,
    "scoop-executor": scoop_executor,
    "ppe-fork": standard_pool("fork"),
    "ppe-forkserver": standard_pool("forkserver"),
    "mp-pool": MultiprocessingPool,
    "loky": loky_pool,
    "scoop-run": Launched,
    "scoop07": Launched,
    "dask": Dask,
    "ray": Ray,
    "mpi4py": mpi_pool,
}
