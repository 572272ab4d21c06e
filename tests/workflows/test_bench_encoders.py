"""The experiment on encoders, from the shell: two configurations, one seed, two steps, on drawn scenes."""

import json
from pathlib import Path

import pytest
from click.testing import Result
from small_training import discs, write_pairs

pytest.importorskip("vit_pytorch", reason="the extra vit-pytorch is not installed")

NAMES = ("vit-pytorch", "scalable-tiny")
SHORT = ("--seeds", 1, "--tile-size", 64, "--side", 64, "--only", NAMES[0], "--only", NAMES[1])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stripes to learn from and to be scored on, discs to learn further."""
    place = tmp_path_factory.mktemp("encoders")
    write_pairs(place / "stripes", stems=("a", "b"))
    write_pairs(place / "discs", stems=("c", "d", "e", "f"), truth=discs)
    return place


def bench(command, place: Path, *options: object) -> Result:
    """The command in that place."""
    sides = [[place / name / side for side in ("images", "labels")] for name in ("stripes", "discs")]
    work = ("--work", place / "work", "--transfer", *sides[1], "--transfer-steps", 2)
    return command("bench", "encoders", *sides[0], "--val", "b", *work, *SHORT, *options)


@pytest.mark.slow
def test_each_configuration_is_a_line_and_the_same_command_goes_on(command, place: Path) -> None:
    """Of what is done nothing is done again; what is missing is."""
    first = bench(command, place, "--steps", 2, "--json")
    assert first.exit_code == 0, first.stderr
    rows = [json.loads(line) for line in first.stdout.splitlines()]
    assert [row["configuration"] for row in rows] == list(NAMES)
    assert all(row["seeds"] == 1 and len(row["growth"]) == 1 for row in rows)
    assert all(grown["memory"] > 0 and grown["flops"] > 1e7 for row in rows for grown in row["growth"])
    assert all(row["failed"] == 0 and row["measures"]["scratch"] and row["measures"]["on_class"] for row in rows)
    kept = place / "work" / "vit-pytorch-0.json"
    written = kept.stat().st_mtime_ns
    (place / "work" / "scalable-tiny-0.json").unlink()
    again = bench(command, place, "--steps", 2, "--json", "--attention", place / "attention.webp")
    assert again.exit_code == 0, again.stderr
    assert (place / "attention.webp").read_bytes()[8:12] == b"WEBP"
    assert kept.stat().st_mtime_ns == written
    scores = [[json.loads(line)["measures"] for line in result.stdout.splitlines()] for result in (first, again)]
    assert scores[0] == scores[1]
    other = bench(command, place, "--steps", 3)
    assert other.exit_code == 2
    assert "has results with steps 2, not 3; give the old value" in other.stderr


def test_a_configuration_that_does_not_exist_is_refused(command, place: Path) -> None:
    """Before anything is trained."""
    result = bench(command, place, "--only", "unet")
    assert result.exit_code == 2
    assert "--only unet: there is none; give vit-pytorch" in result.stderr
