"""How often a task is tried, and in which order."""

import pytest
from distributed.scheduler import KilledWorker

from pipeline.bench.scheduling import measure_scheduling
from pipeline.cluster import attempts
from pipeline.cluster.attempts import Attempt, Queue
from pipeline.errors import BlockError, RunError, TransientError


def death(allowed=0):
    """A worker has died of it, or as many as a scheduler of others' allows, and one."""
    return KilledWorker("key", None, allowed)


def tried(errors):
    """The attempts that follow each other when they end in these errors; None at the end: given up."""
    found = [Attempt(("a",))]
    for error in errors:
        found.append(found[-1].after(error))
    return found


@pytest.mark.parametrize("error", [BlockError("b"), RunError("r"), ZeroDivisionError()])
def test_what_will_not_pass_is_tried_once(error):
    """A model that answers with no number will do so again."""
    assert tried([error])[1] is None


def test_what_may_pass_is_tried_three_times(monkeypatch):
    """Each after a longer pause."""
    monkeypatch.setattr(attempts.time, "monotonic", lambda: 100.0)
    _, second, third, fourth = tried([TransientError("t")] * 3)
    assert [second.due, third.due, fourth] == [101.0, 102.0, None]


@pytest.mark.parametrize(("allowed", "deaths"), [(0, [1, 2]), (1, [2]), (3, [4])])
def test_a_task_that_was_near_two_deaths_runs_alone(allowed, deaths):
    """And is given up when a worker dies of it then; a scheduler of others' may have let more die before."""
    found = tried([death(allowed)] * (len(deaths) + 1))
    assert [attempt.deaths for attempt in found[1:-1]] == deaths
    assert [attempt.suspect for attempt in found[:-1]] == [False] * len(deaths) + [True]
    assert found[-1] is None


def test_fresh_tasks_do_not_wait_for_those_that_pause():
    """Nor are they read before they are needed."""
    read = []
    queue = Queue((read.append(number) or (number,)) for number in range(3))
    queue.put(Attempt(("again",), due=attempts.time.monotonic() + 0.05))
    assert queue.take(0).task == (0,)
    assert read == [0]
    assert 0 < queue.pause <= 0.05
    attempts.time.sleep(0.06)
    assert [queue.take(1).task for _ in range(3)] == [("again",), (1,), (2,)]


def test_suspects_come_last_and_alone():
    """When nothing else is under way or may come."""
    queue = Queue([(0,)])
    for name in "ab":
        queue.put(Attempt((name,), deaths=2))
    assert queue.take(0).task == (0,)
    assert queue.take(1) is None
    assert queue.take(0).task == ("a",)
    assert queue.take(1) is None
    assert queue.take(0).task == ("b",)
    assert queue.take(0) is None


def test_the_bench_hands_out_every_block():
    """And counts what one costs; the figures for many are the README's."""
    row = measure_scheduling(200, workers=0)
    assert row.blocks == 200
    assert row.microseconds > 0 < row.memory
