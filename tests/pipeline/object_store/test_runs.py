"""A bucket is as good a place for results as a folder: the same arrays under the same names."""

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import rasterio
import xarray
import zarr
from loopback_s3 import SECRET, command, proxy
from obstore.store import S3Store
from zarr.storage import ObjectStore

from pipeline import RunConfig, open_mosaic, segment_raster
from pipeline.errors import InputError, OutputError, UsageError
from pipeline.rasters.raster import Reader, open_raster
from pipeline.run import status, stitch_raster
from pipeline.steps.journal import Journal, checksum
from pipeline.storage import buckets, lock
from pipeline.storage.paths import path_of, read_part, write_first
from pipeline.storage.paths import whole as whole_file
from pipeline.verify import verify


def test_a_run_into_a_bucket_is_the_run_into_a_folder(original, ask, done, digests, tmp_path):
    """All arrays of mosaic and store, the same objects under the same names, and all is done."""
    done.fetch(tmp_path)
    assert digests(tmp_path / "in" / "out.zarr") == digests(original.output)
    folder = original.output.parent
    here = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {key.removeprefix("in/") for key in done.names()} == here - {"in.tif", "out.run/run.lock"}
    assert status(f"{done.address}/in/out.zarr").complete
    assert not verify(path_of(f"{done.address}/in/out.zarr")).damaged


def test_nothing_that_is_written_holds_a_credential(ask, done):
    """Neither run spec nor records, mosaic, report."""
    assert not [key for key in done.names() if SECRET.encode() in done.read(key)]


def test_others_open_a_mosaic_in_a_bucket(original, ask, done):
    """Xarray and zarr over obstore; and GDAL the VRT beside it, with its overviews."""
    expected = open_mosaic(original.output).classes[...]
    plain = {"endpoint": buckets.endpoint(), "client_options": {"allow_http": True}}
    store = ObjectStore(S3Store(done.name, prefix="in/out.zarr", **plain))
    found = xarray.open_zarr(store, group="0", mask_and_scale=False)
    np.testing.assert_array_equal(found.classes, expected)
    np.testing.assert_array_equal(zarr.open_consolidated(store, mode="r")["0/classes"][...], expected)
    host = buckets.endpoint().removeprefix("http://")
    near = rasterio.Env(AWS_S3_ENDPOINT=host, AWS_HTTPS="NO", AWS_VIRTUAL_HOSTING="FALSE")
    with near, rasterio.open(f"/vsis3/{done.name}/in/out.classes.vrt") as dataset:
        np.testing.assert_array_equal(dataset.read(1), expected)


def test_the_commands_take_a_bucket(ask, done):
    """`status`, `info`, `verify`, `stitch`."""
    mosaic, new = f"{done.address}/in/out.zarr", f"{done.address}/other/new.zarr"
    assert "complete" in command("status", mosaic).output
    assert json.loads(command("info", mosaic, "--json").output)["complete"]
    assert command("verify", mosaic).exit_code == 0
    made = command("stitch", mosaic, "-o", new, "--score-threshold", 0.99)
    assert made.exit_code == 0, made.output
    assert open_mosaic(new).shape == open_mosaic(mosaic).shape


def test_what_is_damaged_is_found_and_made_again(original, bucket, stored, digests, tmp_path):
    """A chunk of the mosaic and a shard of the store; only their blocks."""
    for key in ("in/out.zarr/0/classes/0.0", "in/out.run/store/scores/c/0/1/0/0/0"):
        content = bytearray(bucket.read(key))
        content[len(content) // 2] ^= 255
        bucket.put(key, bytes(content))
    assert {one.block for one in verify(path_of(stored)).damaged} == {"0-0", "0-1"}
    report = segment_raster(original.raster, stored, original.config)
    assert (report.inferred, report.rendered) == (1, 1)
    bucket.fetch(tmp_path)
    assert digests(tmp_path / "in" / "out.zarr") == digests(original.output)


def test_a_mosaic_that_was_begun_is_made_again(original, bucket, stored, digests, tmp_path):
    """Its metadata are put one by one; a run that is killed in between leaves some of them."""
    gone = [key for key in bucket.names("in/out.zarr/0/") if ".z" in key or "/y/" in key]
    for key in [*gone, *bucket.names("in/out.run/records/render"), "in/out.run/COMPLETE"]:
        bucket.client.delete_object(Bucket=bucket.name, Key=key)
    segment_raster(original.raster, stored, original.config)
    bucket.fetch(tmp_path)
    assert digests(tmp_path / "in" / "out.zarr") == digests(original.output)


def test_to_start_afresh_deletes_what_is_there(original, bucket, stored):
    """And nothing beside it."""
    bucket.put("in/out.run/records/render/7-7.json", b"{}")
    bucket.put("in/out.zarry", b"mine")
    config = RunConfig(**{**vars(original.config), "overwrite": True, "score_threshold": 0.9})
    assert segment_raster(original.raster, stored, config).inferred == 6
    assert "in/out.run/records/render/7-7.json" not in bucket.names()
    assert bucket.read("in/out.zarry") == b"mine"


def test_what_is_not_ours_is_not_touched(original, bucket):
    """Objects of others under the mosaic's key."""
    bucket.put("out.zarr/mine", b"mine")
    config = RunConfig(**{**vars(original.config), "overwrite": True})
    with pytest.raises(OutputError, match="something else is there that this tool did not make"):
        segment_raster(original.raster, f"{bucket.address}/out.zarr", config)
    assert bucket.names() == ["out.zarr/mine"]


def test_parts_and_workers_meet_in_a_bucket(original, bucket, digests, tmp_path):
    """Two parts, the second by a worker process, which gets no more than the run folder's address."""
    output = f"{bucket.address}/out.zarr"
    for part, workers in (("0/2", 0), ("1/2", 1)):
        config = RunConfig(**{**vars(original.config), "shard": part, "workers": workers})
        assert segment_raster(original.raster, output, config).inferred == 3
    stitch_raster(output)
    bucket.fetch(tmp_path)
    assert digests(tmp_path / "out.zarr") == digests(original.output)


KILLED = """
import json, sys
from pipeline import RunConfig
from killed_run import run_until

source, output, options = sys.argv[1:]
config = RunConfig(**{name: tuple(v) if isinstance(v, list) else v for name, v in json.loads(options).items()})
run_until("render", 0, "forward", source, output, config)
"""


def test_a_killed_run_goes_on(small, bucket, digests, tmp_path, monkeypatch):
    """Its lock stays behind, and is nobody's as soon as it has not changed for a while."""
    output, support = f"{bucket.address}/out.zarr", Path(__file__).parents[2] / "support"
    words = [sys.executable, "-c", KILLED, small.raster, output, json.dumps(vars(small.config))]
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parents[3]}:{support}")
    assert subprocess.run(list(map(str, words)), capture_output=True, check=False).returncode == -9
    assert "out.run/run.lock" in bucket.names()
    assert not status(output).complete
    monkeypatch.setattr(lock, "STALE_SECONDS", 0.5)
    report = segment_raster(small.raster, output, small.config)
    assert (report.inferred, report.reused) == (0, 2)
    bucket.fetch(tmp_path)
    assert digests(tmp_path / "out.zarr") == digests(small.output)
    assert "out.run/run.lock" not in bucket.names()


def test_a_run_is_held_against_another_one(small, bucket, monkeypatch):
    """As long as its holder lives; two parts do not mind each other, but a whole run does."""
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.05)
    journal = Journal(path_of(f"{bucket.address}/out.run"))
    with journal.lock(), pytest.raises(OutputError, match=r"out\.run is in use by another run; wait for it"):
        segment_raster(small.raster, f"{bucket.address}/out.zarr", small.config)
    with journal.lock("0/2"), journal.lock("1/2"):
        with pytest.raises(OutputError, match="in use"), journal.lock():
            pass
        with pytest.raises(OutputError, match="in use"), journal.lock("1/2"):
            pass
    assert bucket.names() == []


def test_a_lock_that_was_taken_is_not_let_go(bucket, monkeypatch, caplog):
    """Its new holder's stays, and the old one is told."""
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.05)
    with Journal(path_of(f"{bucket.address}/out.run")).lock():
        bucket.put("out.run/run.lock", b"another's")
        time.sleep(0.5)
    assert "another run has taken it" in caplog.text
    assert bucket.read("out.run/run.lock") == b"another's"


def test_objects_are_joined_in_a_bucket_as_in_a_folder(whole, countries, bucket, digests, tmp_path):
    """The same arrays, and the same table of them."""
    _, raster, output = whole
    options = {"tile_size": (64, 64), "overlap": "32", "tile_block": 2, "chunk": 64, "device": "cpu"}
    segment_raster(raster, f"{bucket.address}/out.zarr", RunConfig(model=countries, **options))
    bucket.fetch(tmp_path)
    assert digests(tmp_path / "out.zarr") == digests(output)
    assert bucket.read("out.run/objects.parquet") == (output.with_suffix(".run") / "objects.parquet").read_bytes()


def test_a_large_object_is_put_and_read_in_parts(bucket, monkeypatch):
    """It comes out as it went in, and its parts add up to its checksum."""
    monkeypatch.setattr(buckets, "PART_BYTES", 5 * 2**20)
    content = np.random.default_rng(0).bytes(12 * 2**20 + 17)
    path = path_of(f"{bucket.address}/large")
    with whole_file(path) as file:
        file.write(content)
    assert bucket.read("large") == content
    assert checksum(path) == google_crc32c.value(content)
    assert [read_part(path, start, 9) for start in (7, -9)] == [content[7:16], content[-9:]]


def test_of_many_that_begin_a_file_one_does(bucket):
    """It is asked of the store, which answers all but one that something is there."""
    path = path_of(f"{bucket.address}/out.run/run.json")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: buckets.put_new(path, str(number)), range(8)))
    (winner,) = [number for number, version in enumerate(found) if version]
    write_first(path, "too late")
    assert bucket.read("out.run/run.json") == str(winner).encode()


@pytest.mark.parametrize("kind", ["s3", "http"])
def test_a_raster_in_a_bucket_reads_like_a_file(original, bucket, kind):
    """By its own address or the web's, with leave; the run's mosaic is the file's."""
    bucket.put("in.tif", original.raster.read_bytes())
    address = f"s3://{bucket.name}" if kind == "s3" else f"{buckets.endpoint()}/{bucket.name}"
    far, near = open_raster(f"{address}/in.tif", allow_remote=True), open_raster(original.raster)
    with Reader(far) as one, Reader(near) as other:
        for found, expected in zip(one.read(far.grid.window), other.read(near.grid.window), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_a_run_from_bucket_to_bucket(small, bucket, digests, tmp_path):
    """The command of the manual."""
    bucket.put("in.tif", small.raster.read_bytes())
    config = RunConfig(**{**vars(small.config), "allow_remote": True})
    segment_raster(f"{bucket.address}/in.tif", f"{bucket.address}/out.zarr", config)
    bucket.fetch(tmp_path)
    assert digests(tmp_path / "out.zarr") == digests(small.output)


@pytest.mark.parametrize("scheme", ["s3", "http"])
def test_no_request_is_made_without_leave(original, s3, ask, scheme):
    """The address alone is looked at."""
    with proxy(s3) as faulty:
        ask(faulty.server_port)
        host = "bucket" if scheme == "s3" else f"127.0.0.1:{faulty.server_port}/bucket"
        with pytest.raises(InputError, match="is on another host; download it, or let run"):
            segment_raster(f"{scheme}://{host}/in.tif", "out.zarr", original.config)
        assert faulty.asked == []


@pytest.mark.parametrize(
    "output", ["gs://bucket/out.zarr", "az://box/out.zarr", "s3://bucket", "s3://me:hush@bucket/o.zarr"]
)
def test_other_addresses_are_refused(original, output):
    """One line, exit 2, without what may be a secret."""
    ended = command("run", original.raster, "--out", output)
    assert ended.exit_code == 2
    assert "s3://BUCKET/KEY" in ended.output
    assert "hush" not in ended.output


def test_the_extra_that_is_missing_is_named(monkeypatch):
    """With the line that installs it."""
    monkeypatch.setitem(sys.modules, "upath", None)
    with pytest.raises(UsageError, match=r"pip install 'eomt-batch\[s3\]'"):
        path_of("s3://bucket/out.zarr")
