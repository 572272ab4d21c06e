"""Workers that die, hang or hog: the run goes on, and what cannot be done is named."""

import random
from collections import Counter

import numpy as np
import pytest
import zarr
from faults_fleet import seeded, until

from eomt_core.errors import DeviceError
from pipeline import segment_raster
from pipeline.cluster import flight
from pipeline.errors import BlockError, RetryLater
from pipeline.run import status
from pipeline.steps.infer import InferWorker

KINDS = ["processes", pytest.param("scheduler", marks=pytest.mark.again)]


def run(made, fleet, follow=None, **changes):
    """The run on a fleet's workers."""
    config = type(made.config)(**{**vars(made.config), **fleet.options, **changes})
    return segment_raster(made.raster, made.output, config, follow)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "seed"), seeded(20))
def test_a_killed_worker_costs_the_block_it_was_at(fleet, many, unbroken, digests, kind, seed):
    """F1: four of them at random moments of inference; 64 blocks are done in at most 68 attempts, and alike."""
    rng, killed = random.Random(seed), []
    with fleet(kind, pace=0.05) as made:
        kills = sorted(rng.sample(range(4, 60), 4))

        def follow(progress):
            if progress.step == "infer" and kills and progress.fresh and len(made.tried()) >= kills[0]:
                kills.pop(0)
                killed.append(made.kill_a_worker(rng))

        report = run(many, made, follow)
        assert (report.inferred, len(set(made.tried()))) == (64, 64)
        assert len(made.tried()) <= 64 + sum(killed)
    assert killed
    assert digests(many.output) == digests(unbroken.output)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_block_that_kills_its_workers_is_left_out(fleet, many, unbroken, kind):
    """F5: after three of them, the last time alone; the 63 others are done, and the mosaic has nodata there."""
    with fleet(kind, kill="3-4") as made:
        report = run(many, made, on_error="skip")
        deaths = Counter(made.tried())["3-4"]
    assert list(report.skipped) == ["3-4"]
    assert "workers died of it; likely out of memory" in report.skipped["3-4"]
    assert (report.inferred, deaths) == (63, 3)
    assert (classes(many)[144:192, 192:240] == 255).all()
    seen_by_its_tile = np.zeros((400, 400), bool)
    seen_by_its_tile[144:208, 192:256] = True
    assert (classes(many) == classes(unbroken))[~seen_by_its_tile].all()


def classes(made):
    """Of the mosaic."""
    return zarr.open_array(made.output / "0" / "classes", mode="r")[...]


@pytest.mark.slow
def test_a_block_that_kills_its_workers_ends_a_run_that_may_not_skip(fleet, many):
    """F5: with everything else done; the same command tries that block alone."""
    with fleet("processes", kill="3-4") as made, pytest.raises(BlockError, match="infer_block-3-4: workers died"):
        run(many, made)
    assert status(many.output).missing["infer"] == ["3-4"]
    assert many.again().inferred == 1


@pytest.mark.slow
def test_a_block_that_hogs_memory_says_so(fleet, many):
    """F6: its workers are ended by their nannies; three attempts, and the others are done."""
    with fleet("own scheduler", "--memory-limit", "1.3GB", hog="2-2") as made:
        report = run(many, made, on_error="skip")
        assert Counter(made.tried())["2-2"] <= 3
    assert list(report.skipped) == ["2-2"]
    assert "out of memory" in report.skipped["2-2"]
    assert report.inferred == 63


@pytest.mark.slow
def test_a_worker_that_loses_its_device_makes_room_for_another(fleet, many, unbroken, digests):
    """What CUDA has failed once fails for ever in that process: the block is done in a new one."""
    with fleet("processes", lost="4-4") as made:
        assert run(many, made).inferred == 64
        assert Counter(made.tried())["4-4"] == 2
    assert digests(many.output) == digests(unbroken.output)


def test_a_run_that_loses_its_device_ends_for_later(fresh, monkeypatch):
    """In this process there is nobody who starts another one: 75, and the same command goes on."""

    def lost(*args):
        raise DeviceError("cuda:0: CUDA error: unspecified launch failure")

    with monkeypatch.context() as patch:
        patch.setattr(InferWorker, "run", lost)
        with pytest.raises(RetryLater, match=r"tile block 0-0 of .*: cuda:0: CUDA error: unspecified launch failure"):
            fresh.again()
    assert fresh.again().inferred == 6


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_that_hangs_is_not_waited_for(fleet, many, unbroken, digests, monkeypatch, said, kind):
    """F15: nothing is heard of its block, so another worker gets it."""
    monkeypatch.setattr(flight, "STALL_SECONDS", 4)
    with fleet(kind, stick="5-5") as made:
        assert run(many, made).inferred == 64
        assert Counter(made.tried())["5-5"] == 2
    assert "nothing was heard of infer_block-5-5 for 4 s: given out once more" in said
    assert digests(many.output) == digests(unbroken.output)


@pytest.mark.slow
def test_blocks_that_always_hang_end_the_run_for_later(fleet, many, monkeypatch):
    """F15: exit code 75, with the block's name, and no process left behind."""
    monkeypatch.setattr(flight, "STALL_SECONDS", 4)
    with fleet("processes", stick="5-5", times=99) as made, pytest.raises(RetryLater, match="heard of infer_block-5-5"):
        run(many, made)
    assert until(lambda: not made.workers)
    assert len(status(many.output).done["infer"]) == 63


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_what_fails_twice_in_passing_is_done_the_third_time(fleet, many, unbroken, digests, kind):
    """F14: an input or output error; others are not kept waiting by the pauses."""
    with fleet(kind, flaky=2) as made:
        assert run(many, made).inferred == 64
        assert set(Counter(made.tried()).values()) == {3}
    assert digests(many.output) == digests(unbroken.output)


@pytest.mark.slow
def test_what_fails_three_times_is_given_up(fleet, many):
    """F14: and only then."""
    with fleet("processes", flaky=99) as made, pytest.raises(BlockError, match=r"OSError: .*Input/output error"):
        run(many, made)
    assert max(Counter(made.tried()).values()) == 3
