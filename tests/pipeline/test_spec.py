"""The run spec survives its file, and its fingerprints tell what must be done again."""

import os
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

from pipeline import RunConfig
from pipeline.errors import UsageError
from pipeline.prepare import prepare
from pipeline.preprocess import Scaling
from pipeline.spec import RunSpec, read_spec


@pytest.fixture
def spec(original):
    """The spec of the complete run."""
    return read_spec(original.folder)


def test_a_spec_is_read_as_it_was_written(spec):
    """Equal, and with the same fingerprints."""
    again = RunSpec.from_json(spec.to_json())
    assert again == spec
    assert again.render_fingerprint == spec.render_fingerprint


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", '{"format": 1}', '{"format": 99}', '{"format": 1, "model": 3}']
)
def test_what_is_no_spec_is_told(text):
    """By errors that its readers expect."""
    with pytest.raises((ValueError, KeyError, TypeError)):
        RunSpec.from_json(text)


def test_a_spec_is_the_same_whatever_the_folder_of_the_call(original, monkeypatch):
    """Workers elsewhere find raster and model by the paths in it."""
    model = Path(original.config.model)
    monkeypatch.chdir(model.parent)
    relative = RunConfig(**{**vars(original.config), "model": model.name})
    made = prepare(os.path.relpath(original.raster), Path("out.zarr"), relative)
    assert Path(made.model.location).is_absolute()
    assert Path(made.raster.path).is_absolute()
    assert Path(made.output).is_absolute()
    assert made.infer_fingerprint == read_spec(original.folder).infer_fingerprint


CHANGES = {
    "raster": lambda spec: replace(spec, raster=replace(spec.raster, bands=(3, 2, 1))),
    "file": lambda spec: replace(spec, raster=replace(spec.raster, stamps=(spec.raster.stamps[0]._replace(size=1),))),
    "nodata": lambda spec: replace(spec, raster=replace(spec.raster, nodata=None, mask="none")),
    "model": lambda spec: replace(spec, model=replace(spec.model, sha256="0" * 64)),
    "tile_size": lambda spec: replace(spec, tile_size=(96, 64)),
    "overlap": lambda spec: replace(spec, overlap=(32, 16)),
    "tile_block": lambda spec: replace(spec, tile_block=1),
    "kind": lambda spec: replace(spec, kind="exact"),
    "precision": lambda spec: replace(spec, precision="bf16"),
    "task": lambda spec: replace(spec, task="panoptic"),
    "scaling": lambda spec: replace(spec, scaling=Scaling((0.0,) * 3, (254.0,) * 3)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_decides_the_records_is_in_the_infer_fingerprint(spec, name):
    """And in exactly one named fact, with both values."""
    other = CHANGES[name](spec)
    assert other.infer_fingerprint != spec.infer_fingerprint
    changes = list(spec.changes(other, "infer"))
    assert changes
    assert all(old != new for _, old, new in changes)


def test_no_two_changes_look_alike(spec):
    """Fingerprints of different runs differ from each other, too."""
    prints = {name: change(spec).infer_fingerprint for name, change in CHANGES.items()}
    assert all(prints[one] != prints[other] for one, other in combinations(prints, 2))


@pytest.mark.parametrize("change", [{"score_threshold": 0.5}, {"zarr_format": 3}, {"chunk": 128}])
def test_stitching_and_layout_are_not_in_it(spec, change):
    """They can be changed without inferring again; the mosaic is another one."""
    other = replace(spec, **change)
    assert other.infer_fingerprint == spec.infer_fingerprint
    assert other.render_fingerprint != spec.render_fingerprint
    (stage,) = [stage for stage in ("stitch", "layout") if list(spec.changes(other, stage))]
    assert list(spec.changes(other, stage)) == [(*change, getattr(spec, next(iter(change))), *change.values())]


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: replace(spec, output="/elsewhere/out.zarr"),
        lambda spec: replace(spec, versions={"torch": "99"}),
        lambda spec: replace(spec, model=replace(spec.model, location="/moved", name="moved")),
        lambda spec: replace(spec, overlap=(9, 15)),
        lambda spec: replace(spec, raster=replace(spec.raster, path="/moved/in.tif", notes=("x",))),
    ],
)
def test_what_decides_nothing_is_in_no_fingerprint(spec, change):
    """Where things lie, what is newer, an overlap that rounds to the same."""
    assert change(spec).render_fingerprint == spec.render_fingerprint


def test_the_overlap_is_rounded_up_to_the_lattice(spec):
    """As it is used, so it is compared."""
    assert replace(spec, overlap=(1, 17)).facts("infer")["overlap"] == (16, 32)


def test_blocks_of_the_mosaic_hold_whole_chunks(spec):
    """Two a side while the classes are few."""
    assert spec.block_side == 128
    assert replace(spec, model=replace(spec.model, num_classes=33)).block_side == 64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile_size": (60, 64)}, "60 is no multiple of 16, the model's lattice; take 64"),
        ({"overlap": "64"}, "--overlap 64: 64 pixels must be less than the tile size"),
        (
            {"overlap": "60"},
            "60 pixels, 64 on the model's lattice, must be at least 0 and less than the tile",
        ),
        ({"task": "panoptic"}, "--task: "),
        ({"bands": "1,2"}, "--bands"),
        ({"scale": "9,1"}, "--scale 9,1: 9 must be below 1"),
        ({"nodata": "x"}, "--nodata x"),
        ({"model": "/nowhere"}, "--model /nowhere: "),
    ],
)
def test_options_that_do_not_fit_model_or_raster_start_nothing(fresh, options, message):
    """Exit code 2, and not even a folder is made."""
    with pytest.raises(UsageError, match=message) as caught:
        fresh.again(**options)
    assert caught.value.exit_code == 2
    assert not fresh.folder.exists()
