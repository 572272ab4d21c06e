"""Nothing is lost when an object store falters, and whoever may not use one is told."""

from datetime import timedelta

import numpy as np
import pytest
import zarr
from loopback_s3 import command, proxy

from pipeline import segment_raster
from pipeline.errors import OutputError, RetryLater
from pipeline.run import status
from pipeline.storage import buckets, lock
from pipeline.storage.paths import path_of, zarr_store


def test_an_answer_that_was_lost_is_not_taken_for_another_run(bucket, s3, ask, quick):
    """The object was put, and the silence came after it."""
    path = f"{bucket.address}/out.run/run.lock"
    with proxy(s3, lambda call: 0.8 if call.number == 0 else None) as faulty:
        ask(faulty.server_port)
        bucket.put("out.run/run.lock", b"ours")
        assert buckets.put_new(path_of(path), "ours")
        assert buckets.put_new(path_of(path), "another's") is None


def falter(call):
    """Every third request: 503, now and then silence; the same request twice at most."""
    if call.number % 3 or call.failed == 2:
        return None
    return 503 if call.number % 90 else 0.8


def test_a_store_that_fails_every_third_time_does_no_harm(small, bucket, s3, ask, quick, digests, tmp_path):
    """503, and silence: all is done."""
    with proxy(s3, falter) as faulty:
        ask(faulty.server_port)
        segment_raster(small.raster, f"{bucket.address}/out.zarr", small.config)
    assert len(faulty.asked) > 60
    bucket.fetch(tmp_path)
    assert digests(tmp_path / "out.zarr") == digests(small.output)


REQUESTS = {
    "read": lambda path: status(path),
    "create": lambda path: buckets.put_new(path, "new"),
    "delete": lambda path: buckets.remove(path),
    "delete a chunk": lambda path: zarr.core.sync.sync(zarr_store(path).delete("0.0")),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_is_made_three_times_with_pauses(bucket, s3, ask, monkeypatch, name):
    """The first as long as is said, the second no shorter."""
    monkeypatch.setattr(buckets, "BACKOFF", timedelta(milliseconds=100))
    with proxy(s3, lambda call: 503) as faulty:
        ask(faulty.server_port)
        with pytest.raises(RetryLater), buckets.answering():
            REQUESTS[name](path_of(f"{bucket.address}/out.zarr"))
        assert len({(call.method, call.path) for call in faulty.asked}) == 1
    times = [call.at for call in faulty.asked]
    assert len(times) == buckets.ATTEMPTS
    assert (np.diff(times) >= 0.09).all()


@pytest.mark.parametrize("name", ["create", "delete", "delete a chunk"])
def test_a_request_without_an_answer_is_made_again(bucket, s3, ask, quick, name):
    """Also those where obstore does not know that this does no harm."""
    with proxy(s3, lambda call: 0.8 if call.number < 2 else None) as faulty:
        ask(faulty.server_port)
        REQUESTS[name](path_of(f"{bucket.address}/out.zarr"))
    assert [call.failed for call in faulty.asked][:3] == [0, 1, 2]


def test_a_store_that_stays_away_is_a_matter_of_time(small, bucket, s3, ask, quick, monkeypatch):
    """One line, exit 75, whenever it begins; the same command goes on."""
    words = ["run", small.raster, "--model", small.config.model, "--out", f"{bucket.address}/out.zarr"]
    words += ["--tile-size", 64, "--overlap", 16, "--tile-block", 1, "--chunk", 64, "--device", "cpu"]
    monkeypatch.setattr(lock, "STALE_SECONDS", 0.3)
    for calls in (0, 40):
        with proxy(s3, lambda call, calls=calls: 503 if call.number >= calls else None) as faulty:
            ask(faulty.server_port)
            ended = command(*words, "-q")
        assert ended.exit_code == 75, ended.output
        (line,) = [line for line in ended.output.splitlines() if line.startswith("eomt-batch: error")]
        assert "the object store gave way: 503 Service Unavailable" in line
    ask(s3)
    assert command(*words).exit_code == 0


@pytest.mark.parametrize(("fault", "words"), [(404, "404 Not Found"), (403, "403 Forbidden, AccessDenied")])
def test_a_bucket_that_is_closed_is_told_before_the_start(small, s3, ask, quick, fault, words):
    """Missing or denied: one line, exit 2."""
    with proxy(s3, lambda call: fault) as faulty:
        ask(faulty.server_port)
        ended = command("run", small.raster, "--model", small.config.model, "--out", "s3://bucket/out.zarr")
    assert ended.exit_code == 2
    assert f"s3://bucket/out.zarr: the bucket cannot be used ({words}" in ended.output
    assert len(ended.output.splitlines()) == 1


def test_a_bucket_that_may_not_be_written_is_told_before_the_start(small, bucket, s3, ask, quick):
    """It may be listed; the first object that is put is the lock."""
    with proxy(s3, lambda call: 403 if call.method == "PUT" else None) as faulty:
        ask(faulty.server_port)
        with pytest.raises(OutputError, match=r"out\.run: cannot be written \(403 Forbidden"):
            segment_raster(small.raster, f"{bucket.address}/out.zarr", small.config)
    assert bucket.names() == []
