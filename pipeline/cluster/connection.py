"""A Dask cluster in this process, worker processes on this machine, or a scheduler elsewhere."""

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dask
from distributed import Client, LocalCluster, Nanny, Scheduler, SpecCluster
from distributed.comm.addressing import get_address_host_port

from pipeline.cluster import flight
from pipeline.cluster.flight import Cluster
from pipeline.config import RunConfig
from pipeline.devices import visible_to
from pipeline.errors import RetryLater, UsageError
from pipeline.software import versions

LOOPBACK = "127.0.0.1:0"
"""For every HTTP server that Dask starts: even `None` would listen on all interfaces."""

DASK = {
    # Our tasks return records below 1 kB: there is nothing to spill, and spilling would only hide a leak.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    # Every death of a worker is the driver's to judge; by default a task takes four workers down before it is told.
    "distributed.scheduler.allowed-failures": 0,
}

CONNECT_SECONDS = 30
"""How long a scheduler may take to answer, or to be found again."""

QUIET = "ignore::UserWarning:multiprocessing.resource_tracker"
"""A worker that was killed leaves a lock behind, which Python clears away and warns about."""

_starting = threading.Lock()
"""Dask's servers import parts of themselves when they are first started, which two threads must not do at once."""


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
            yield Cluster(client, threads=max(1, cores() // max(1, config.workers)))


WORKER = {
    "host": "127.0.0.1",
    "nthreads": 1,
    "resources": {"GPU": 1},
    "memory_limit": 0,
    "dashboard": False,
    "dashboard_address": LOOPBACK,
    "silence_logs": logging.CRITICAL,
}
"""A worker process: one block at a time, as it holds the device."""


TOGETHER = 4
"""Blocks that a process renders at a time at the most. With more they wait for the interpreter's lock longer than
they save: 8192 x 8192 pixels took 6.7 s on 16 cores, 4.8 s on 4 of these (once, by hand)."""


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def together() -> int:
    """Blocks that this process renders at a time."""
    return min(TOGETHER, cores())


def _in_process() -> LocalCluster:
    """A scheduler and one worker in this process: no port but loopback's, and no second copy of anything."""
    return LocalCluster(
        n_workers=1,
        processes=False,
        threads_per_worker=together(),
        resources={"GPU": 1},
        memory_limit=0,
        dashboard_address=LOOPBACK,
        worker_dashboard_address=LOOPBACK,
        silence_logs=logging.CRITICAL,
    )


def _processes(config: RunConfig) -> SpecCluster:
    """Worker processes, restarted when they die; each sees one GPU alone, told before CUDA starts."""
    os.environ.setdefault("PYTHONWARNINGS", QUIET)
    scheduler = {"host": "127.0.0.1", "dashboard": False, "dashboard_address": LOOPBACK}
    return SpecCluster(
        scheduler={"cls": Scheduler, "options": scheduler},
        workers={
            index: {"cls": Nanny, "options": {**WORKER, "env": visible_to(config, index)}}
            for index in range(config.workers)
        },
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
    except TypeError as error:  # what Dask raises for the lack of an ssl_context
        raise UsageError(
            f"--scheduler {place}: speaks TLS; name your keys in Dask's settings: docs/safety.md"
        ) from error
    except OSError as error:
        raise RetryLater(f"--scheduler {place}: no scheduler answers there ({error}); start it first") from error
    try:
        client.wait_for_workers(1, timeout=flight.WORKER_SECONDS)
    except OSError as error:
        client.close()
        raise RetryLater(
            f"--scheduler {place}: it has no worker after {flight.WORKER_SECONDS} s; start some"
        ) from error
    _check_versions(client, str(place))
    return client


def _check_versions(client: Client, place: str) -> None:
    """Raises UsageError where a worker has other software than this process: its results might differ."""
    ours = versions()
    for worker, theirs in client.run(versions, on_error="return").items():
        if isinstance(theirs, BaseException):
            raise UsageError(f"--scheduler {place}: worker {worker} cannot run eomt-batch ({theirs}); install it there")
        other = [f"{name} {theirs.get(name)}, here {ours[name]}" for name in ours if theirs.get(name) != ours[name]]
        if other:
            raise UsageError(f"--scheduler {place}: worker {worker} has {'; '.join(other)}; install the same in both")


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
