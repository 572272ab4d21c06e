"""What follows a run, and what comes before: plan, stitch, status, info, models, demo."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline import open_mosaic


def test_plan_counts_without_doing(command, raster: Path, model: Path, tmp_path: Path) -> None:
    """Figures by arithmetic: stride 48 over 160 rows and 224 columns, and nothing is written."""
    result = command("plan", raster, "-m", model, "-o", tmp_path / "a.zarr", "--chunk", 64, "--json")
    assert result.exit_code == 0, result.stderr
    plan = json.loads(result.stdout)
    assert (plan["tile_grid"], plan["tiles"], plan["stride"]) == ([3, 5], 15, [48, 48])
    assert (plan["tile_blocks"], plan["output_blocks"]) == (1, 4)
    assert plan["bytes"]["memory"] > plan["bytes"]["inference"] > 0
    assert list(tmp_path.iterdir()) == []


def test_plan_needs_no_place(command, raster: Path, model: Path) -> None:
    """--out may be left out; the words name tiles, memory and disk."""
    result = command("plan", raster, "-m", model)
    assert [line.split()[0] for line in result.stdout.splitlines()] == [
        "input",
        "model",
        "tiles",
        "device",
        "memory",
        "disk",
    ]


def test_a_plan_that_does_not_fit_is_shown_and_refused(command, raster: Path, model: Path) -> None:
    """Both figures are named."""
    result = command("plan", raster, "-m", model, "--max-memory", "1MB")
    assert result.exit_code == 2
    assert "memory" in result.stdout
    assert "may take 0.00 GB" in result.stderr.splitlines()[-1]


def test_plan_refuses_what_run_would_refuse(command, refused, finished: Path, raster: Path, model: Path) -> None:
    """The run that stands was begun with another tile size."""
    result = command("plan", raster, "-m", model, "-o", finished, "--chunk", 64, "--tile-size", 96)
    assert "tile-size 64x64, now tile-size 96x96" in refused(result)


def test_stitch_applies_a_threshold_in_another_mosaic(command, finished: Path, tmp_path: Path) -> None:
    """Between the stripes confidence falls; only the full one is accepted, and the first mosaic stays."""
    first = open_mosaic(finished)
    classes, confidence = np.asarray(first.classes), np.asarray(first.confidence)
    result = command("stitch", finished, "-o", tmp_path / "b.zarr", "--score-threshold", 1, "--json")
    assert json.loads(result.stdout)["inferred"] == 0
    assert 0 < (confidence < 254).mean() < 0.5
    np.testing.assert_array_equal(open_mosaic(tmp_path / "b.zarr").classes[:], np.where(confidence < 254, 254, classes))
    np.testing.assert_array_equal(first.classes[:], classes)


def test_stitch_keeps_what_is_not_given(command, finished: Path, tmp_path: Path) -> None:
    """The format changes, the chunks stay."""
    assert command("stitch", finished, "-o", tmp_path / "b.zarr", "--zarr-format", 3, "-q").exit_code == 0
    info = json.loads(command("info", tmp_path / "b.zarr", "--json").stdout)
    assert (info["zarr_format"], info["chunk"]) == (3, 64)


def test_shards_come_and_go(command, finished: Path, tmp_path: Path) -> None:
    """`none` is how an option that was given is taken back."""
    sharded = tmp_path / "b.zarr"
    assert command("stitch", finished, "-o", sharded, "--zarr-format", 3, "--zarr-shard", 128, "-q").exit_code == 0
    assert open_mosaic(sharded).classes.shards == (128, 128)
    assert command("stitch", sharded, "--zarr-shard", "none", "-q").exit_code == 0
    assert open_mosaic(sharded).classes.shards is None


def test_shards_in_format_2_are_refused(command, refused, finished: Path) -> None:
    """Also where the format is that of the mosaic which stands."""
    line = refused(command("stitch", finished, "--zarr-shard", 128))
    assert "--zarr-shard 128: format 2 has no shards; add --zarr-format 3" in line


def test_status_counts_the_blocks(command, finished: Path) -> None:
    """In words and as JSON."""
    assert "infer      1 of 1 blocks done" in command("status", finished).stdout
    found = json.loads(command("status", finished, "--json").stdout)
    assert (found["complete"], found["missing"]) == (True, {"infer": [], "render": []})


def test_status_where_nothing_was_begun(command, refused, tmp_path: Path) -> None:
    """One line, exit 2."""
    assert "no run was begun here" in refused(command("status", tmp_path / "a.zarr"))


def test_info_tells_what_a_mosaic_was_made_with(command, finished: Path, model: Path) -> None:
    """Shape, place, classes and the model."""
    found = json.loads(command("info", finished, "--json").stdout)
    assert (found["shape"], found["crs"], found["complete"]) == ([160, 224], "EPSG:32640", True)
    assert found["classes"] == {"0": "red", "1": "green", "2": "blue"}
    assert found["provenance"]["model"]["sha256"] == json.loads(command("info", model, "--json").stdout)["sha256"]


def test_info_tells_what_a_model_is(command, model: Path) -> None:
    """Its card, its architecture, its size."""
    found = json.loads(command("info", model, "--json").stdout)
    assert found["card"]["classes"] == ["red", "green", "blue"]
    assert found["parameters"] == 9
    assert "  classes: red, green, blue" in command("models", "show", model).stdout.splitlines()


def test_info_of_nothing(command, refused) -> None:
    """One line, exit 2."""
    assert "no such file or directory" in refused(command("info", "nowhere"))


def test_models_pull_copies_a_whole_model(command, refused, model: Path, tmp_path: Path) -> None:
    """What was fetched is the same model, by its hash; a directory that is there is left alone."""
    assert command("models", "pull", model, "-o", tmp_path / "copy").exit_code == 0
    one, two = (json.loads(command("info", place, "--json").stdout) for place in (model, tmp_path / "copy"))
    assert one["sha256"] == two["sha256"]
    assert "already there" in refused(command("models", "pull", model, "-o", tmp_path / "copy"))


def test_models_lists_the_cache(command, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models of the Hugging Face cache that we can read; the others are left out."""
    for name in ("one--palette", "two--words"):
        snapshot = tmp_path / f"models--{name}" / "snapshots" / "abc"
        snapshot.mkdir(parents=True)
        for file in model.iterdir() if name == "one--palette" else ():
            (snapshot / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr("huggingface_hub.utils._cache_manager.HF_HUB_CACHE", str(tmp_path))
    found = json.loads(command("models", "list", "--json").stdout)
    assert [(entry["id"], entry["classes"]) for entry in found["cached"]] == [("one/palette", ["red", "green", "blue"])]
    assert "  one/palette: semantic, red, green, blue, 0.0 M parameters" in command("models").stdout


def test_models_new_lists_what_can_be_made(command, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line per name: parameters, FLOPs, the tile they are for, and which tiles there are."""
    monkeypatch.setattr("eomt_core.catalogue.NAMES", ("hybrid-tiny", "vit_small_patch16_dinov3_qkvb"))
    result = command("models", "new")
    assert result.exit_code == 0
    ours, dinov3 = result.stdout.splitlines()
    assert ours.startswith("new:hybrid-tiny: 2.3 M parameters, ")
    assert dinov3.startswith("new:vit_small_patch16_dinov3_qkvb: 23.3 M parameters, 16.")
    assert dinov3.endswith(" GFLOPs per tile of 256x256, tiles of multiples of 16")


@pytest.mark.slow
def test_demo_goes_all_the_way(command, tmp_path: Path) -> None:
    """A scene, its truth, a mosaic, scores, a picture, the commands; and the second time nothing is inferred again."""
    folder = tmp_path / "demo"
    result = command("demo", folder, "--seed", 7)
    assert result.exit_code == 0, result.stderr
    assert f"eomt-batch evaluate {folder}/masks-7.zarr {folder}/truth-7.tif" in result.stdout
    assert open_mosaic(folder / "masks-7.zarr").shape == (1536, 1536)
    assert (folder / "picture-7.png").stat().st_size > 100_000
    again = json.loads(command("demo", folder, "--seed", 7, "--json").stdout)
    assert (again["inferred"], again["rendered"]) == (0, 0)
    assert again["evaluation"]["miou"] > 0.75


def test_verify_ends_with_75_where_something_is_damaged(command, finished: Path, tmp_path: Path) -> None:
    """And names it; twice asked, nothing is left but what is to be made anew."""
    harmed = tmp_path / "masks.zarr"
    shutil.copytree(finished, harmed)
    shutil.copytree(finished.with_suffix(".run"), harmed.with_suffix(".run"))
    assert command("verify", harmed).exit_code == 0
    (chunk, *_) = sorted(path for path in harmed.rglob("0/classes/*") if path.name[0].isdigit())
    chunk.write_bytes(b"")
    result = command("verify", harmed)
    assert result.exit_code == 75
    assert chunk.name in result.stdout
    assert "damaged blocks: 1; the same run command makes them anew" in result.stderr
    assert json.loads(command("verify", harmed, "--json").stdout)["damaged"] == []
