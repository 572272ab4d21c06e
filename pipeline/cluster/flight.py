"""The client loop: a window of tasks under way, their results as they come, and what becomes of those that fail.

Tasks that ask for a resource bypass the scheduler's own queue, and every task assigned to a worker that dies is blamed
for it. So no more are handed over than two for each that can run at a time.
"""

import logging
import os
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from distributed import Client, Future
from distributed.client import ClosedClientError, FutureCancelledError
from distributed.scheduler import KilledWorker

from pipeline.cluster import pulse
from pipeline.cluster.attempts import Attempt, Queue, Task
from pipeline.errors import BlockError, RetryLater

WORKER_SECONDS = 60
"""How long a cluster may be without any worker."""

STALL_SECONDS = 600
"""How long nothing may be heard of any task: neither that it is done nor that it goes on."""

TICK_SECONDS = 1.0
"""How often the loop looks up while nothing lands."""

SHOWN = 5
"""Tasks that a message names."""

OnFailure = Callable[[Task, BlockError], Any]
"""What takes the place of a task's result when it is given up."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cluster:
    """Workers that run tasks.

    Attributes:
        client: The connection.
        threads: Compute threads that each worker should use.
    """

    client: Client
    threads: int

    def run(
        self, function: Callable[..., Any], tasks: Iterable[Task], alone: bool, on_failure: OnFailure | None = None
    ) -> Generator[Any]:
        """Results of `function(*task)`, as they come.

        Args:
            function: Importable by the workers.
            tasks: Arguments, small.
            alone: Whether a worker runs only one at a time, as it holds the device.
            on_failure: Makes the result of a task that is given up; None: its error ends the run.

        Raises:
            BlockError: A task is given up.
            RetryLater: The scheduler or the workers are gone, or nothing was heard of them for long.
        """
        with closing(Flight(self, function, Queue(tasks), alone)) as flight:
            while flight.fill():
                landed = flight.next()
                if landed:
                    yield from flight.outcome(*landed, on_failure)

    def window(self, alone: bool) -> int:
        """Tasks to hold in flight: two for each that can run at a time; workers may come and go."""
        with scheduler_asked():
            threads: dict[str, int] = self.client.nthreads()
        return 2 * max(1, len(threads) if alone else sum(threads.values()))


class Flight:
    """Tasks under way.

    Args:
        cluster: The workers.
        function: What runs them.
        queue: Those that wait.
        alone: Whether a worker runs only one at a time.
    """

    def __init__(self, cluster: Cluster, function: Callable[..., Any], queue: Queue, alone: bool) -> None:
        self.cluster, self.client = cluster, cluster.client
        self.function, self.queue, self.alone = function, queue, alone
        self.attempts: dict[Future, Attempt] = {}
        self.landed = SimpleQueue[Future]()
        self.heard = self.staffed = time.monotonic()
        self.stalled = False
        with scheduler_asked():
            self.resources = {"GPU": 1} if alone and self._have_gpu() else None
            self.client.subscribe_topic(pulse.TOPIC, self._hear)

    def fill(self) -> bool:
        """Hand over as much as the window holds; false: all has landed."""
        room = self.cluster.window(self.alone) - len(self.attempts)
        while room > 0 and (attempt := self.queue.take(len(self.attempts))):
            self._submit(attempt)
            room = 0 if attempt.suspect else room - 1
        return bool(self.attempts) or self.queue.pause is not None

    def next(self) -> tuple[Future, Attempt] | None:
        """What has landed; None: nothing in a moment, there may be more to hand over."""
        pause = self.queue.pause
        try:
            future = self.landed.get(timeout=TICK_SECONDS if pause is None else min(TICK_SECONDS, pause))
        except Empty:
            self._check_life()
            return None
        attempt = self.attempts.pop(future, None)
        return (future, attempt) if attempt else None  # one that was given out again may land after all

    def outcome(self, future: Future, attempt: Attempt, on_failure: OnFailure | None) -> Iterator[Any]:
        """The result of what has landed; nothing where it is to be tried again."""
        self.heard, self.stalled = time.monotonic(), False
        try:
            yield _result(future)
        except (KilledWorker, BlockError) as error:
            again = attempt.after(error)
            if again:
                log.warning("attempt %d at %s failed: %s", attempt.number, _name(future), _words(error))
                self.queue.put(again)
            elif on_failure:
                yield on_failure(attempt.task, _failure(future, error))
            else:
                raise _failure(future, error) from error
        finally:
            future.release()

    def close(self) -> None:
        """Let go of what is still under way; where the scheduler is gone, there is nothing to let go of."""
        with suppress(RetryLater), scheduler_asked():
            self.client.cancel(list(self.attempts), force=True)
            self.client.unsubscribe_topic(pulse.TOPIC)
        self.attempts.clear()

    def _submit(self, attempt: Attempt) -> None:
        """Hand over one task; it lands in the queue when it is done, failed or lost."""
        task, key = attempt.task, _key(self.function, attempt.task)
        with scheduler_asked():
            future = self.client.submit(self.function, *task, key=key, resources=self.resources, pure=False, retries=0)
            self.attempts[future] = attempt
            future.add_done_callback(self.landed.put)

    def _have_gpu(self) -> bool:
        """Whether all workers name the resource; where one does not, asking for it might wait for ever."""
        workers = self.client.scheduler_info(n_workers=-1)["workers"].values()
        return all("GPU" in worker["resources"] for worker in workers)

    def _hear(self, event: tuple[float, str]) -> None:
        """A task goes on; other drivers' tasks are heard here too."""
        if event[1] in {future.key for future in list(self.attempts)}:
            self.heard = time.monotonic()

    def _check_life(self) -> None:
        """Raises RetryLater where there was no worker for long, or where nothing was heard twice as long as may be."""
        now = time.monotonic()
        with scheduler_asked():
            self.staffed = now if self.client.nthreads() else self.staffed
        if now - self.staffed > WORKER_SECONDS:
            raise RetryLater("no Dask worker is left; start some and run the same command again")
        if self.attempts and now - self.heard > STALL_SECONDS:
            self._give_out_again()

    def _give_out_again(self) -> None:
        """A worker or its file system may hang: others may do better; but only once."""
        names = ", ".join(sorted(map(_name, self.attempts))[:SHOWN])
        if self.stalled:
            raise RetryLater(f"nothing was heard of {names} for {STALL_SECONDS} s; look at the workers, then run again")
        log.warning("nothing was heard of %s for %d s: given out once more", names, STALL_SECONDS)
        stuck, self.attempts = self.attempts, {}
        for attempt in stuck.values():
            self.queue.put(attempt)
        with scheduler_asked():
            holders = self._holders({future.key for future in stuck})
            self.client.cancel(list(stuck), force=True)
            if holders:
                self.client.run(os._exit, 1, workers=holders, on_error="ignore")
        self.heard, self.stalled = time.monotonic(), True

    def _holders(self, keys: set[str]) -> list[str]:
        """Workers that hold tasks and have a nanny that starts them anew: a thread that hangs cannot be ended alone."""
        workers = self.client.scheduler_info(n_workers=-1)["workers"]
        return [
            address
            for address, held in self.client.processing().items()
            if keys.intersection(held) and workers.get(address, {}).get("nanny")
        ]


def _key(function: Callable[..., Any], task: Task) -> str:
    """What Dask calls a task: a worker's death is told by this name."""
    return "-".join([function.__name__, *(str(part) for part in task if isinstance(part, int)), uuid.uuid4().hex])


def _name(future: Future) -> str:
    return str(future.key).rpartition("-")[0]


def _result(future: Future) -> Any:
    if future.status == "cancelled":
        raise RetryLater("the Dask scheduler is gone; start it and run the same command again")
    return future.result()


def _words(error: BaseException) -> str:
    return "a worker died of it" if isinstance(error, KilledWorker) else str(error)


def _failure(future: Future, error: KilledWorker | BlockError) -> BlockError:
    """Why a task is given up."""
    if isinstance(error, BlockError):
        return error
    return BlockError(
        f"{_name(future)}: workers died of it; likely out of memory: lower --batch-size (or look at the GPU)"
    )


@contextmanager
def scheduler_asked() -> Iterator[None]:
    """Asking the scheduler for something: that it does not answer may heal."""
    try:
        yield
    except (FutureCancelledError, ClosedClientError, OSError) as error:
        raise RetryLater(f"the Dask scheduler is gone ({error}); start it and run the same command again") from error
