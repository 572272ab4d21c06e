"""The choices of a training are checked when they are made."""

import math

import pytest
from small_training import config_of

from pipeline.errors import UsageError
from pipeline.finetune import FinetuneConfig


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 5, "minutes": 2.0}, "--steps 5, --minutes 2: give one of them"),
        ({"resume": True, "overwrite": True}, "--resume, --overwrite: give one of them"),
        ({"task": "panoptic"}, "--task panoptic: give semantic or instance"),
        ({"steps": 0}, "--steps 0: "),
        ({"minutes": math.inf}, "--minutes inf: "),
        ({"minutes": math.nan}, "--minutes nan: "),
        ({"lr": -1e-3}, "--lr -0.001: "),
        ({"lr": math.inf}, "--lr inf: "),
        ({"batch_size": 0}, "--batch-size 0: "),
        ({"tile_size": -32}, "--tile-size -32: "),
        ({"threads": 0}, "--threads 0: "),
        ({"pixel_size": 0.0}, "--pixel-size 0.0: "),
        ({"zoom": (2.0, 1.0)}, "--zoom 2,1: "),
        ({"zoom": (0.0, 1.0)}, "--zoom 0,1: "),
        ({"zoom": (1.0, 100.0)}, "--zoom 1,100: .* at most 16"),
        ({"zoom": (math.nan, 1.0)}, "--zoom nan,1: "),
        ({"light": (0.1, -0.1, 0.0, 0.0)}, "--light 0.1,-0.1,0,0: "),
        ({"drawn": -1}, "--drawn -1: "),
        ({"seed": -1}, "--seed -1: "),
        ({"seed": 2**40}, "--seed 1099511627776: "),
        ({"precision": "fp8"}, "--precision fp8: "),
        ({"classes": ("road", "roof", "road")}, "--classes road,roof,road: a name stands there twice"),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused(options, words):
    """With the option and its value."""
    steps = {} if "minutes" in options else {"steps": 4}
    with pytest.raises(UsageError, match=f"^{words}"):
        FinetuneConfig("i", "l", "new:test", "out", **{**steps, **options})


def test_what_lasts_is_what_decides_what_is_learned(tmp_path):
    """Not where it is computed, nor how a path was spelled."""
    one = config_of(tmp_path, threads=1, device="cpu").lasting()
    assert one == config_of(tmp_path, threads=3, device="auto", output="elsewhere", resume=True).lasting()
    assert one != config_of(tmp_path, seed=1).lasting()


def test_paths_last_wherever_one_stands(tmp_path, monkeypatch):
    """A relative path is kept as the absolute one that it meant."""
    monkeypatch.chdir(tmp_path)
    assert FinetuneConfig("images/", "l/*.tif", "m", "o").lasting()["images"] == str(tmp_path / "images")
