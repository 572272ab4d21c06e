"""The page that every run leaves: what it holds, what it must not hold, and that it harms no run."""

import json
import logging
import re
import shlex

import numpy as np
import pytest
from small_mosaic import make, paint, picture

from pipeline import open_mosaic
from pipeline.export import report
from pipeline.export.panes import Subject
from pipeline.export.report import FILE, write_report
from pipeline.rasters.raster_spec import Grid
from pipeline.run import stitch_raster
from pipeline.spec import RunSpec
from pipeline.steps.journal import Journal

CANARY = "s3cr3t-c4n4ry"


def test_every_run_leaves_it(done, facts):
    """Areas, states of blocks, tiles and times are those of the mosaic and its records."""
    _, output = done
    found = facts(Journal.of(output).folder / FILE)
    classes = np.asarray(open_mosaic(output).classes)
    shares = {row["id"]: row["share"] for row in found["classes"]}
    assert shares == pytest.approx({id: (classes == id).mean() for id in (0, 1, 2)} | {None: (classes == 255).mean()})
    records = list(Journal.of(output).records("infer", Journal.of(output).spec().infer_fingerprint))
    progress = found["progress"]
    assert progress["inferred"] == sum(record.tiles for record in records)
    assert len(progress["grid"]["states"]) == sum(progress["grid"]["counts"].values()) == len(records)
    assert progress["courses"]["inference"]["blocks"] == len(records)
    assert progress["complete"]
    assert found["metres"] == pytest.approx(1, rel=0.01)
    assert found["crs"] == "EPSG:32640"
    assert {"infer", "render"} <= set(progress["steps"])


def test_blocks_without_data_are_told_from_missing_ones(make_run, facts, tmp_path):
    """A block that is nodata all over, one that is so in part, and one whose record is gone."""
    _, output = make_run((400, 600))
    (Journal.of(output).folder / "records" / "infer" / "3-0.json").unlink()
    write_report(Subject.open(output), tmp_path / "p.html")
    grid = facts(tmp_path / "p.html")["progress"]["grid"]
    states = np.array(list(grid["states"])).reshape(len(grid["rows"]), len(grid["cols"]))
    assert states[3, 0] == "m"
    assert states[0, 0] == "d"
    assert "p" in states[0] or "e" in states[0]


def test_it_holds_no_tag_but_its_own(done):
    """Class names that are markup stay within the JSON, where no `<` is."""
    _, output = done
    text = (Journal.of(output).folder / FILE).read_text()
    held = text.partition('type="application/json">')[2].partition("</script>")[0]
    assert "<" not in held
    assert "window.pwned" in held
    assert text.count("</script>") == 2


def test_it_asks_for_nothing(done):
    """No address but the namespace of SVG; a policy that forbids every other."""
    _, output = done
    text = (Journal.of(output).folder / FILE).read_text()
    page = text.replace(text.partition('type="application/json">')[2].partition("</script>")[0], "")
    assert set(re.findall(r"https?://[^\"' )]+", page)) == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in page


def test_it_names_no_folder_and_no_secret(done):
    """Neither where things lie on this machine, nor the query of an address."""
    raster, output = done
    run = json.loads((Journal.of(output).folder / "run.json").read_text())
    run["raster"] |= {"path": f"https://user:{CANARY}@host.org/in.tif?sig={CANARY}", "stamps": []}
    spec = RunSpec.from_json(json.dumps(run))
    assert CANARY not in json.dumps([spec.provenance(), report._options(spec)])
    assert dict(report._options(spec))["input"] == "in.tif"
    text = (Journal.of(output).folder / FILE).read_text()
    assert str(output.parent) not in text
    assert raster.name in text


def test_stitching_again_writes_it_again(make_run, facts):
    """With a threshold that nothing passes, all is unlabelled; the times of inference are still there."""
    _, output = make_run()
    stitch_raster(output, score_threshold=1.0)
    found = facts(Journal.of(output).folder / FILE)
    assert {row["name"] for row in found["classes"] if row["share"]} <= {
        "unlabelled",
        "no data",
        *open_mosaic(output).class_names,
    }
    assert ["score threshold", "1"] in found["run"]
    assert found["progress"]["courses"]["inference"]


def test_a_report_that_fails_fails_no_run(make_run, monkeypatch, caplog):
    """One line of warning; the run is complete, and a later command makes the page."""

    def fail(*_):
        raise ValueError("no\nreport")

    monkeypatch.setattr(report, "survey", fail)
    with caplog.at_level(logging.WARNING, "pipeline"):
        _, output = make_run()
    (record,) = [record for record in caplog.records if record.name == "pipeline.export.report"]
    assert "no report.html (ValueError: no report)" in record.getMessage()
    assert "\n" not in record.getMessage()
    assert Journal.of(output).complete
    assert not (Journal.of(output).folder / FILE).exists()


def test_without_its_run_a_mosaic_has_maps_and_areas(tmp_path, facts):
    """And a note on what is missing."""
    mosaic = paint(make(tmp_path / "a.zarr"), picture())
    write_report(Subject.open(mosaic.path), tmp_path / "p.html")
    found = facts(tmp_path / "p.html")
    assert [layer["name"] for layer in found["layers"]] == ["classes", "instances", "confidence"]
    assert (found["progress"], found["seams"], found["model"]) == (None, None, [])
    assert any("a.run" in note for note in found["notes"])


def test_it_stays_small(tmp_path):
    """Noise of 5 million pixels, which nothing compresses: below the 20 MB that are promised."""
    shape = (2000, 2500)
    random = np.random.default_rng(0)
    pixels = {
        "classes": random.integers(0, 5, shape, np.uint8),
        "confidence": random.integers(0, 255, shape, np.uint8),
        "instances": random.integers(0, 2**32, shape, np.uint32),
    }
    mosaic = paint(make(tmp_path / "a.zarr", Grid(shape), None), pixels)
    write_report(Subject.open(mosaic.path), tmp_path / "p.html")
    assert (tmp_path / "p.html").stat().st_size < 20e6


def test_commands_are_quoted_for_the_shell(tmp_path, facts):
    """A name with a blank and a quote."""
    mosaic = paint(make(tmp_path / "it's here.zarr"), picture())
    write_report(Subject.open(mosaic.path), tmp_path / "p.html")
    texts = {command["title"]: command["text"] for command in facts(tmp_path / "p.html")["commands"]}
    assert shlex.split(texts["GDAL"].splitlines()[0])[1] == 'ZARR:"it\'s here.zarr":/0/classes'
    assert shlex.split(texts["eomt-batch"].splitlines()[0])[2] == "it's here.zarr"
