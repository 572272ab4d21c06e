"""Runs for objects at their limits: of ids, of queries, and of the area that is looked at."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
from rasterio.transform import Affine
from rasterio.warp import transform_geom
from shapely import MultiPolygon, box
from shapely.geometry import mapping

from pipeline import RunConfig, open_mosaic, segment_raster
from pipeline.errors import RunError, UsageError
from pipeline.prepare import prepare
from pipeline.run import stitch_raster
from pipeline.spec import read_spec
from pipeline.steps.link import MOST, resolve_run
from pipeline.stitch.objects import resolve

THINGS, NODATA = (2, 3, 4), 255
OPTIONS = {"tile_size": (64, 64), "overlap": "32", "chunk": 64, "device": "cpu"}


def test_ids_go_on_beyond_16_bits(whole, harmed, monkeypatch):
    """70 000 objects that nobody sees come first: pixels and table have the numbers of the others behind them."""

    def behind(links, rules, cell, tile):
        found, unseen = resolve(links, rules, cell, tile), np.zeros(70_000, np.int64)
        facts = {name: np.concatenate([unseen, getattr(found, name)]) for name in ("classes", "scores", "votes")}
        return found._replace(numbers=np.where(found.numbers > 0, found.numbers + len(unseen), 0), **facts)

    monkeypatch.setattr("pipeline.steps.link.resolve", behind)
    assert stitch_raster(harmed, min_area=1).objects == 3  # those that can be seen
    before = open_mosaic(whole[2]).instances[...].astype(int)
    np.testing.assert_array_equal(open_mosaic(harmed).instances[...], np.where(before > 0, before + 70_000, 0))
    table = pq.read_table(harmed.with_suffix(".run") / "objects.parquet")
    assert table["id"].to_pylist() == [70_001, 70_002, 70_003]
    assert table["class"].to_pylist() == list(THINGS)


def test_the_last_id_is_the_last_number_that_the_mosaic_holds(whole):
    """Ids begin with 1."""
    assert np.iinfo(open_mosaic(whole[2]).instances.dtype).max == MOST


def test_more_objects_than_ids_are_refused(harmed, monkeypatch):
    """Three are found; with two ids the error names both figures, and what to do."""
    folder = harmed.with_suffix(".run")
    monkeypatch.setattr("pipeline.steps.link.MOST", 3)
    assert resolve_run(read_spec(folder), folder)[0].segments == 3
    monkeypatch.setattr("pipeline.steps.link.MOST", 2)
    with pytest.raises(RunError, match="3 objects, and ids for 2; raise --min-area"):
        resolve_run(read_spec(folder), folder)


def test_more_queries_than_segments_can_be_told_apart_by_are_refused(whole, countries, tmp_path, monkeypatch):
    """Before anything is begun; as many are taken."""
    config = RunConfig(model=countries, **OPTIONS)
    queries = prepare(str(whole[1]), tmp_path / "out.zarr", config).model.num_queries
    monkeypatch.setattr("pipeline.prepare.MOST_QUERIES", queries)
    prepare(str(whole[1]), tmp_path / "out.zarr", config)
    monkeypatch.setattr("pipeline.prepare.MOST_QUERIES", queries - 1)
    with pytest.raises(UsageError, match=f"--model .*: has {queries} queries; .* among {queries - 1}"):
        prepare(str(whole[1]), tmp_path / "out.zarr", config)


def test_an_object_that_leaves_the_area_and_comes_back_is_two(whole, land, countries, tmp_path):
    """Nobody has looked at the tiles in between; their pixels are nodata."""
    with rasterio.open(whole[1]) as dataset:
        profile = dataset.profile | {"crs": "EPSG:32632", "transform": Affine(2, 0, 400000, 0, -2, 5600000)}
        pixels = dataset.read()
    with rasterio.open(tmp_path / "in.tif", "w", **profile) as dataset:
        dataset.write(pixels)
    parts = [box(400000 + 2 * left, 5599680, 400000 + 2 * right, 5600000) for left, right in ((0, 48), (176, 224))]
    area = transform_geom("EPSG:32632", "OGC:CRS84", mapping(MultiPolygon(parts)))
    (tmp_path / "aoi.geojson").write_text(json.dumps({"type": "Feature", "geometry": area}))
    config = RunConfig(model=countries, aoi=str(tmp_path / "aoi.geojson"), tile_block=1, **OPTIONS)
    report = segment_raster(tmp_path / "in.tif", tmp_path / "out.zarr", config)
    assert report.tiles < report.inferred
    found = open_mosaic(tmp_path / "out.zarr")
    assert (found.classes[...][:, 50:174] == NODATA).all()
    ids = found.instances[...]
    sides = [set(np.unique(ids[30:90, side])) for side in (slice(18, 46), slice(178, 198))]
    assert len(sides[0]) == len(sides[1]) == 1
    assert not sides[0] & sides[1]
    assert 0 not in sides[0] | sides[1]
