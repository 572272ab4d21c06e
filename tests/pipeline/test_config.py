"""Options are checked when they are stated; a message names the option, the value and what to give instead."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import RunConfig, overlap_pixels, parse_bytes, parse_tile_size
from pipeline.errors import UsageError


@pytest.mark.parametrize(("text", "expected"), [("640", (640, 640)), ("640x896", (640, 896)), (" 64,128 ", (64, 128))])
def test_a_tile_size_is_rows_by_columns(text, expected):
    """One number is a square."""
    assert parse_tile_size(text) == expected


@pytest.mark.parametrize("text", ["", "x", "640x", "-640", "6.4", "640x640x3", "640 px"])
def test_anything_else_is_no_tile_size(text):
    """The message shows both forms."""
    with pytest.raises(UsageError, match=r"--tile-size .*640, or rows x columns, as 640x896"):
        parse_tile_size(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("128", 128), ("0", 0), ("0.25", 160), (".5", 320), ("25%", 160), ("12.5%", 80), ("0%", 0), (" 16 ", 16)],
)
def test_an_overlap_is_pixels_ratio_or_percentage(text, expected):
    """Of a tile of 640 pixels."""
    assert overlap_pixels(text, 640) == expected


@given(st.integers(0, 639))
def test_all_forms_of_an_overlap_agree(pixels):
    """Whatever the number."""
    forms = (str(pixels), f"{pixels / 640:.17f}", f"{100 * pixels / 640:.17f}%")
    assert [overlap_pixels(form, 640) for form in forms] == [pixels] * 3


@pytest.mark.parametrize("text", ["640", "641", "1.0", "100%", "99.99%"])
def test_an_overlap_must_leave_a_stride(text):
    """The message names the tile."""
    with pytest.raises(UsageError, match=rf"--overlap {text}: \d+ pixels must be less than the tile size \(640\)"):
        overlap_pixels(text, 640)


@pytest.mark.parametrize("text", ["", "-1", "half", "25 %%", "1e2", "0,25"])
def test_anything_else_is_no_overlap(text):
    """The message shows all three forms."""
    with pytest.raises(UsageError, match=r"pixels \(128\), a ratio \(0.25\) or a percentage \(25%\)"):
        overlap_pixels(text, 640)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("8GB", 8 * 10**9), ("512MiB", 2**29), ("1000", 1000), ("1.5 kB", 1500), ("2g", 2 * 10**9), ("1TiB", 2**40)],
)
def test_bytes_have_units_of_ten_and_of_two(text, expected):
    """In any case, with or without a blank."""
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "GB", "-1", "1XB", "1 G B"])
def test_anything_else_is_no_size(text):
    """A wrong unit is not a small number."""
    with pytest.raises(UsageError, match="give a size such as 8GB"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile_block": 0}, "--tile-block 0: give at least 1"),
        ({"chunk": 8}, "--chunk 8: give at least 16"),
        ({"readers": 0}, "--readers 0: give at least 1"),
        ({"workers": -1}, "--workers -1: give at least 0"),
        ({"batch_size": 0}, "--batch-size 0: give at least 1"),
        ({"score_threshold": 1.5}, "--score-threshold 1.5: give a value from 0 to 1"),
        ({"score_threshold": float("nan")}, "--score-threshold nan: give a value from 0 to 1"),
        ({"device": "tpu"}, "--device tpu: give auto, cpu, cuda, cuda:N, or several"),
        ({"precision": "int8"}, "--precision int8: give one of auto, fp32, bf16, fp16"),
        ({"zarr_format": 4}, "--zarr-format 4: give 2 or 3"),
        ({"scheduler": "tcp://a", "scheduler_file": "b"}, "--scheduler and --scheduler-file both name a scheduler"),
        ({"workers": 1, "scheduler": "tcp://a"}, "--workers starts workers on this machine"),
        ({"workers": 1, "scheduler_file": "b"}, "--workers starts workers on this machine"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options, message):
    """Before anything is opened: exit code 2."""
    with pytest.raises(UsageError, match=f"^{message}") as caught:
        RunConfig(model="m", **options)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:11"])
def test_devices_are_named_as_torch_names_them(device):
    """Whether they are there is the worker's to say."""
    assert RunConfig(model="m", device=device).device == device
