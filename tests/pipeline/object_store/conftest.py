"""S3 on loopback, and runs into it."""

from datetime import timedelta

import pytest
import rasterio
from loopback_s3 import KEYS, Bucket, moto

from pipeline import RunConfig, segment_raster
from pipeline.storage import buckets


@pytest.fixture(scope="module")
def s3():
    """The port of an S3 server."""
    with moto() as port:
        yield port


@pytest.fixture
def ask(s3, monkeypatch):
    """`ask(port)`: from now on S3 is there."""

    def at(port: int) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")

    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    at(s3)
    return at


@pytest.fixture
def bucket(s3, ask):
    """An empty bucket."""
    return Bucket(s3)


@pytest.fixture
def quick(monkeypatch):
    """Requests are given up after half a second, and made again soon."""
    monkeypatch.setattr(buckets, "TIMEOUT", timedelta(seconds=0.5))
    monkeypatch.setattr(buckets, "BACKOFF", timedelta(milliseconds=5))


@pytest.fixture(scope="module")
def done(original, s3):
    """A bucket with a complete run, to be looked at."""
    bucket = Bucket(s3)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{s3}"}.items():
            patch.setenv(name, value)
        segment_raster(original.raster, f"{bucket.address}/in/out.zarr", original.config)
    return bucket


@pytest.fixture
def stored(done, bucket):
    """A copy of it, to be harmed."""
    for key in done.names():
        bucket.client.copy_object(Bucket=bucket.name, Key=key, CopySource={"Bucket": done.name, "Key": key})
    return f"{bucket.address}/in/out.zarr"


@pytest.fixture(scope="module")
def small(original, painted, tmp_path_factory):
    """A raster of two tile blocks, and a complete run of it in a folder."""
    folder = tmp_path_factory.mktemp("small")
    profile = {"driver": "GTiff", "count": 3, "height": 64, "width": 112, "dtype": "uint8", "crs": "EPSG:32633"}
    with rasterio.open(folder / "in.tif", "w", transform=rasterio.Affine(1, 0, 5, 0, -1, 5), **profile) as dataset:
        dataset.write(painted((64, 112)))
    config = RunConfig(**{**vars(original.config), "tile_block": 1})
    made = original._replace(raster=folder / "in.tif", output=folder / "out.zarr", config=config)
    assert made.again().inferred == 2
    return made
