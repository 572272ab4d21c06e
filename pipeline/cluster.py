"""Where the tasks run: a Dask cluster in this process, worker processes on this machine, or a scheduler elsewhere.

One client loop serves all three. A window of two tasks per worker is held: tasks that ask for a resource bypass the
scheduler's own queue, and every task assigned to a worker that dies is blamed for it.
"""

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import dask
from distributed import Client, Future, LocalCluster
from distributed.client import ClosedClientError, FutureCancelledError
from distributed.comm.addressing import get_address_host_port
from distributed.scheduler import KilledWorker

from pipeline.config import RunConfig
from pipeline.errors import RetryLater, RunError, UsageError

LOOPBACK = "127.0.0.1:0"
"""For every HTTP server that Dask starts: even `None` would listen on all interfaces."""

DASK = {
    # Our tasks return records below 1 kB: there is nothing to spill, and spilling would only hide a leak.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    # One death of a worker is the driver's to judge; by default a task takes four workers down before it is given up.
    "distributed.scheduler.allowed-failures": 1,
}

CONNECT_SECONDS = 30
"""How long a scheduler may take to answer, or to be found again."""

WORKER_SECONDS = 60
"""How long a cluster may be without any worker."""

_starting = threading.Lock()
"""Dask's servers import parts of themselves when they are first started, which two threads must not do at once."""

Task = tuple[Any, ...]


@dataclass(frozen=True)
class Cluster:
    """Workers that run tasks.

    Attributes:
        client: The connection.
        threads: Compute threads that each worker should use.
    """

    client: Client
    threads: int

    def run(self, function: Callable[..., Any], tasks: Iterable[Task], alone: bool) -> Generator[Any]:
        """Results of `function(*task)`, as they come.

        Args:
            function: Importable by the workers.
            tasks: Arguments, small.
            alone: Whether a worker runs only one at a time, as it holds the device.

        Raises:
            RunError: A worker died of a task.
            RetryLater: The scheduler or the workers are gone.
        """
        waiting, flying, landed = iter(tasks), set[Future](), SimpleQueue[Future]()
        with _scheduler():
            resources = {"GPU": 1} if alone and self._have_gpu() else None
        try:
            while True:
                for task in islice(waiting, max(0, self.window(alone) - len(flying))):
                    flying.add(self._submit(function, task, resources, landed))
                if not flying:
                    return
                future = self._next(landed)
                yield _result(future)
                flying.remove(future)
                future.release()
        finally:
            self._drop(flying)

    def window(self, alone: bool) -> int:
        """Tasks to hold in flight: two for each that can run at a time; workers may come and go."""
        with _scheduler():
            threads: dict[str, int] = self.client.nthreads()
        return 2 * max(1, len(threads) if alone else sum(threads.values()))

    def _submit(self, function: Callable[..., Any], task: Task, resources: Any, landed: SimpleQueue[Future]) -> Future:
        """Hand over one task; it lands in the queue when it is done, failed or lost."""
        key = _key(function, task)
        with _scheduler():
            future = self.client.submit(function, *task, key=key, resources=resources, pure=False, retries=0)
            future.add_done_callback(landed.put)
        return future

    def _have_gpu(self) -> bool:
        """Whether all workers name the resource; where one does not, asking for it might wait for ever."""
        workers = self.client.scheduler_info(n_workers=-1)["workers"].values()
        return all("GPU" in worker["resources"] for worker in workers)

    def _next(self, landed: SimpleQueue[Future]) -> Future:
        """The next future that is done, while there are workers that may do one."""
        while True:
            try:
                return landed.get(timeout=WORKER_SECONDS)
            except Empty:
                with _scheduler():
                    workers = self.client.nthreads()
                if not workers:
                    raise RetryLater("no Dask worker is left; start some and run the same command again") from None

    def _drop(self, futures: Iterable[Future]) -> None:
        """Let go of what is still in flight; where the scheduler is gone, there is nothing to let go of."""
        with suppress(RetryLater), _scheduler():
            self.client.cancel(list(futures), force=True)


def _key(function: Callable[..., Any], task: Task) -> str:
    """What Dask calls a task: a worker's death is told by this name."""
    return "-".join([function.__name__, *(str(part) for part in task if isinstance(part, int)), uuid.uuid4().hex])


def _result(future: Future) -> Any:
    if future.status == "cancelled":
        raise RetryLater("the Dask scheduler is gone; start it and run the same command again")
    try:
        return future.result()
    except KilledWorker as error:
        block = str(future.key).rpartition("-")[0]
        raise RunError(f"{block}: workers died of it; likely out of memory: lower --batch-size") from error


@contextmanager
def _scheduler() -> Iterator[None]:
    """Asking the scheduler for something: that it does not answer may heal."""
    try:
        yield
    except (FutureCancelledError, ClosedClientError, OSError) as error:
        raise RetryLater(f"the Dask scheduler is gone ({error}); start it and run the same command again") from error


@contextmanager
def connect(config: RunConfig) -> Iterator[Cluster]:
    """The cluster that the configuration asks for, closed at the end.

    Raises:
        RetryLater: No scheduler at the address, or no worker there.
        UsageError: It is no address.
    """
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(DASK))
        if config.scheduler or config.scheduler_file:
            yield Cluster(stack.enter_context(_existing(config)), threads=1)
        else:
            with _starting:
                cluster = stack.enter_context(_processes(config) if config.workers else _in_process())
            client = stack.enter_context(Client(cluster, set_as_default=False))  # nobody else's tasks are for it
            yield Cluster(client, threads=1 if config.workers else cores())


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def _in_process() -> LocalCluster:
    """A scheduler and one worker in this process: no port but loopback's, and no second copy of anything."""
    return LocalCluster(
        n_workers=1,
        processes=False,
        threads_per_worker=cores(),
        resources={"GPU": 1},
        memory_limit=0,
        dashboard_address=LOOPBACK,
        worker_dashboard_address=LOOPBACK,
        silence_logs=logging.CRITICAL,
    )


def _processes(config: RunConfig) -> LocalCluster:
    return LocalCluster(
        n_workers=config.workers,
        processes=True,
        threads_per_worker=1,
        resources={"GPU": 1},
        memory_limit=0,
        host="127.0.0.1",
        dashboard_address=LOOPBACK,
        worker_dashboard_address=LOOPBACK,
        silence_logs=logging.CRITICAL,
    )


def _existing(config: RunConfig) -> Client:
    """A client of a scheduler that is there, with at least one worker."""
    place = config.scheduler or config.scheduler_file
    try:
        address = config.scheduler or _address(Path(str(config.scheduler_file)))
        _knock(address)
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except ValueError as error:
        raise UsageError(f"--scheduler {place}: is no address ({error}); give one as tcp://HOST:PORT") from error
    except OSError as error:
        raise RetryLater(f"--scheduler {place}: no scheduler answers there ({error}); start it first") from error
    try:
        client.wait_for_workers(1, timeout=WORKER_SECONDS)
    except OSError as error:
        client.close()
        raise RetryLater(f"--scheduler {place}: it has no worker after {WORKER_SECONDS} s; start some") from error
    return client


def _address(file: Path) -> str:
    """The address in a scheduler's file, which may be about to be written.

    Raises:
        TimeoutError: It is not.
    """
    deadline = time.monotonic() + CONNECT_SECONDS
    while time.monotonic() < deadline:
        try:
            return str(json.loads(file.read_text())["address"])
        except (OSError, ValueError, KeyError, TypeError):
            time.sleep(0.2)
    raise TimeoutError(f"{file} names none")


def _knock(address: str) -> None:
    """Wait until something listens at an address.

    Dask's client tries for itself, but one that fails is never quite gone: its thread goes on, and when it is collected
    in the wrong moment the process stands still.

    Raises:
        ValueError: It is no address.
        OSError: Nothing does.
    """
    if address.startswith("inproc://"):
        return
    place, deadline = get_address_host_port(address), time.monotonic() + CONNECT_SECONDS
    while True:
        try:
            socket.create_connection(place, timeout=CONNECT_SECONDS).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
