"""A hundred kills, one after the other: nothing lost, no pixel wrong."""

import random
import time

import psutil
import pytest
from faults_fleet import alive, command_of, drive

from pipeline.run import status


def workers_of(driver):
    """The worker processes of a driver's own cluster."""
    family = alive(psutil.Process(driver.pid)) if driver.is_alive() else []
    return [child for child in family if "--multiprocessing-fork" in command_of(child)]


def complete(made):
    """Whether a run has come to its end; a driver may have been killed before it had begun."""
    return (made.folder / "run.json").exists() and status(made.output).complete


def kill_one(driver, rng):
    """SIGKILL the driver, or one of its workers; whether there was one."""
    workers = workers_of(driver)
    if not driver.is_alive() or (rng.random() < 0.7 and not workers):
        return False
    (driver if rng.random() < 0.3 or not workers else rng.choice(workers)).kill()
    return True


@pytest.mark.soak
def test_a_hundred_kills_leave_no_trace(fleet, many, unbroken, forks, digests, capsys):
    """Of drivers and workers at random moments; each run that comes to its end is the unbroken one's equal."""
    rng, kills, ended, attempts = random.Random(0), 0, 0, 0
    with fleet("processes", pace=0.15) as made:
        config = type(many.config)(**{**vars(many.config), **made.options})
        now = many
        while kills < 100 or not complete(now):
            if complete(now):
                now = many._replace(output=many.output.with_name(f"{ended}.zarr"))
            driver = forks.Process(target=drive, args=(made.folder, now.raster, now.output, config))
            driver.start()
            attempts += 1
            assert attempts < 200
            while driver.is_alive():
                time.sleep(rng.uniform(1.5, 4))
                kills += kills < 100 and kill_one(driver, rng)
            driver.join()
            assert driver.exitcode in (0, 1, -9)  # 1: the same block's third death, which the next attempt forgets
            if complete(now):
                ended += 1
                assert digests(now.output) == digests(unbroken.output)
    with capsys.disabled():
        print(f"\n{kills} kills, {attempts} drivers, {ended} runs to the end, {len(made.tried())} blocks begun")
