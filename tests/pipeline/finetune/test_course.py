"""A training from end to end: what it leaves, and that whatever stops it costs nothing but time."""

import dataclasses
import json
import math
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_training import config_of, discs, steps_in, stripes, train, write_pairs

from eomt_core import load_model
from eomt_core.describe import describe_model
from pipeline.errors import InputError, RetryLater, RunError, UsageError
from pipeline.finetune import course, finetune

FULL_DISK = Path("/dev/full")
"""What is written there is refused as on a full disk."""

NEAR = 1e-6
"""What a training that was stopped may differ by from one that was not."""


def losses_of(folder):
    """Of every step."""
    return np.loadtxt(folder / "losses.csv", delimiter=",", skiprows=1, ndmin=2)[:, 1]


def same_results(one, other):
    """Whether two folders hold the same losses, scores and models, to `NEAR`."""
    assert losses_of(one) == pytest.approx(losses_of(other), abs=NEAR)
    assert (one / "scores.csv").read_text() == (other / "scores.csv").read_text()
    weights = [load_file(folder / "model.safetensors") for folder in (one, other)]
    assert weights[0].keys() == weights[1].keys()
    states = [torch.load(folder / "checkpoint.pt", weights_only=True)["training"] for folder in (one, other)]
    for part in (weights, *([state[name] for state in states] for name in ("model", "average"))):
        for name, tensor in part[0].items():
            assert torch.allclose(tensor, part[1][name], rtol=0, atol=NEAR), name
    return True


def test_a_training_leaves_a_model_and_how_it_came_to_be(scenes):
    """With pictures, a row for each step, and what was chosen."""
    outcome = finetune(config_of(scenes, val=("b",)))
    folder = scenes / "model"
    assert {path.name for path in folder.iterdir()} == {
        *("model.safetensors", "eomt_batch.json", "finetune.json", "losses.csv", "scores.csv", "report.json"),
        *("checkpoint.pt", "loss.png", "validation.png", "confusion.png", "run.lock"),
    }
    assert len(losses_of(folder)) == outcome.steps == 6
    assert json.loads((folder / "report.json").read_text()) == dataclasses.asdict(outcome)
    assert 0 <= outcome.score <= 1
    assert outcome.measure == "mIoU"
    card = describe_model(str(folder)).card
    assert (card.name, card.classes, card.tasks) == ("model", ("class_0", "class_1"), ("semantic",))
    assert (card.pixel_size, card.value_range) == (1.0, ((0.0, 255.0),) * 3)
    assert load_model(folder).eval()(torch.rand(1, 3, 32, 40)).mask_logits.shape == (1, 2, 16, 20)


def test_without_validation_the_last_model_is_kept(scenes):
    """And nobody says how good it is."""
    outcome = finetune(config_of(scenes, steps=2))
    assert (outcome.score, outcome.best_step) == (None, None)
    assert not (scenes / "model" / "validation.png").exists()
    assert (scenes / "model" / "model.safetensors").exists()


def test_the_best_model_is_kept(scenes, monkeypatch):
    """Not the last one."""
    scores, saved = iter([0.2, 0.7, math.nan, 0.6]), []
    real = course.validate
    monkeypatch.setattr(course, "validate", lambda *args: real(*args)._replace(score=next(scores)))
    monkeypatch.setattr(course.Course, "_save", lambda self: saved.append(self.session.step))
    outcome = finetune(config_of(scenes, steps=4, val=("b",)))
    assert (outcome.score, outcome.best_step) == (0.7, 2)
    assert saved == [1, 2]


def test_a_score_that_is_no_number_still_leaves_a_model(scenes, monkeypatch):
    """As bad as can be, but there."""
    real = course.validate
    monkeypatch.setattr(course, "validate", lambda *args: real(*args)._replace(score=math.nan))
    assert finetune(config_of(scenes, steps=2, val=("b",))).score == 0
    assert (scenes / "model" / "model.safetensors").exists()


def test_minutes_end_a_training(scenes):
    """Whatever it has come to; the last look is at the end."""
    outcome = finetune(config_of(scenes, steps=None, minutes=0.005, val=("b",)))
    assert 0.3 <= torch.load(scenes / "model" / "checkpoint.pt", weights_only=True)["elapsed"] < 60
    assert outcome.steps == len(losses_of(scenes / "model")) > 0
    assert (scenes / "model" / "scores.csv").read_text().splitlines()[-1].startswith(f"{outcome.steps},")


def test_objects_are_learned_too(tmp_path):
    """Panoptic quality tells how well; the model has its queries, and one class."""
    folder = write_pairs(tmp_path, truth=discs)
    outcome = finetune(config_of(folder, task="instance", classes=("disc",), val=("b",), steps=3, half=True))
    assert outcome.measure == "PQ"
    card = describe_model(str(folder / "model")).card
    assert (card.classes, card.things, card.tasks) == (("disc",), (0,), ("instance",))
    assert load_file(folder / "model" / "model.safetensors")["q.weight"].dtype == torch.float16
    assert not (folder / "model" / "confusion.png").exists()
    assert load_model(folder / "model").num_q == 16


def test_a_complete_training_is_told_again(scenes, caplog):
    """And not touched, whatever the place is called now."""
    first = finetune(config_of(scenes, steps=2, val=("b",)))
    (scenes / "model").rename(scenes / "renamed")
    before = {path.name: path.stat().st_mtime_ns for path in (scenes / "renamed").iterdir()}
    again = finetune(config_of(scenes, "renamed", steps=2, val=("b",), resume=True))
    assert again == dataclasses.replace(first, output=str(scenes / "renamed"))
    assert {path.name: path.stat().st_mtime_ns for path in (scenes / "renamed").iterdir()} == before
    assert "is complete" in caplog.text


def test_an_end_that_was_cut_off_is_made_up_for(scenes):
    """No step is taken for it."""
    first = finetune(config_of(scenes, steps=2))
    for name in ("report.json", "loss.png", "model.safetensors"):
        (scenes / "model" / name).unlink()
    steps = []
    assert finetune(config_of(scenes, steps=2, resume=True), steps.append) == first
    assert steps == []
    assert (scenes / "model" / "loss.png").exists()
    assert (scenes / "model" / "model.safetensors").exists()


@pytest.fixture
def unbroken(scenes):
    """A training that nobody disturbs; each of its checkpoints would do to go on from."""
    finetune(config_of(scenes, "unbroken", val=("b",)))
    return scenes


@pytest.mark.parametrize("every", [-1.0, 1e9])
def test_an_interrupted_training_goes_on(unbroken, monkeypatch, every):
    """From the last checkpoint, or from the start where there is none."""
    monkeypatch.setattr(course, "CHECKPOINT_EVERY", every)

    def interrupt(pulse):
        if pulse.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(config_of(unbroken, val=("b",)), interrupt)
    assert (unbroken / "model" / "checkpoint.pt").exists() == (every < 0)
    steps = []
    finetune(config_of(unbroken, val=("b",), resume=True), lambda pulse: steps.append(pulse.step))
    assert steps[0] == (4 if every < 0 else 1)
    assert same_results(unbroken / "model", unbroken / "unbroken")


@pytest.mark.slow
def test_a_killed_training_goes_on(tmp_path, forks):
    """Killed twice at any moment, it ends with the losses, the scores and the weights of one that was not."""
    folder = write_pairs(tmp_path)
    config = config_of(folder, steps=12, val=("b",))
    finetune(dataclasses.replace(config, output=str(folder / "unbroken")))
    log = folder / "model" / "losses.csv"
    for least, resume in ((3, False), (7, True)):
        going = dataclasses.replace(config, resume=resume)
        process = forks.Process(target=train, args=(going,), kwargs={"every": -1.0, "pause": 0.2})
        process.start()
        deadline = time.monotonic() + 300
        while process.is_alive() and steps_in(log) < least and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
        process.join()
        assert process.exitcode == -9
        assert least <= steps_in(log) < 12
    assert not (folder / "model" / "report.json").exists()
    steps = []
    finetune(dataclasses.replace(config, resume=True), lambda pulse: steps.append(pulse.step))
    assert steps[0] > 7
    assert same_results(folder / "model", folder / "unbroken")


def test_leftovers_of_a_kill_do_no_harm(unbroken):
    """Half a checkpoint, half a model, half a log."""
    shutil.copytree(unbroken / "unbroken", unbroken / "model")
    (unbroken / "model" / "report.json").unlink()
    for name in (".checkpoint.pt", ".model.safetensors.77", "losses.csv.77.partial"):
        (unbroken / "model" / name).write_bytes(b"half")
    finetune(config_of(unbroken, val=("b",), resume=True))
    assert same_results(unbroken / "model", unbroken / "unbroken")


def test_a_damaged_checkpoint_is_told(scenes):
    """With its file, and what to do."""
    finetune(config_of(scenes, steps=1))
    (scenes / "model" / "report.json").unlink()
    (scenes / "model" / "checkpoint.pt").write_bytes(b"PK damaged")
    with pytest.raises(InputError, match=r"checkpoint\.pt: cannot be read .*--overwrite"):
        finetune(config_of(scenes, steps=1, resume=True))
    assert finetune(config_of(scenes, steps=1, overwrite=True)).steps == 1


def test_a_loss_that_is_no_number_stops_the_training(scenes):
    """The last checkpoint is not replaced by it."""
    with pytest.raises(RunError, match=r"model: the loss is nan at step \d; .*--overwrite and a lower --lr"):
        finetune(config_of(scenes, lr=1e30))
    assert not (scenes / "model" / "checkpoint.pt").exists()


def test_a_full_device_is_told(scenes, monkeypatch):
    """With what to give instead."""
    from eomt_core.training.session import Session

    def full(*args):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(Session, "advance", full)
    with pytest.raises(RunError, match=r"the memory is full at 2 crops of 32 pixels; .*smaller --batch-size"):
        finetune(config_of(scenes))


@pytest.mark.skipif(not FULL_DISK.is_char_device(), reason=f"there is no {FULL_DISK} here")
def test_a_full_disk_is_told(unbroken):
    """With what to do; no half of a checkpoint is left, and the training goes on."""
    partial = unbroken / "model" / ".checkpoint.pt"
    with pytest.raises(RetryLater, match=r"model: the disk is full \(.*checkpoint.*\); make room, then give --resume"):
        finetune(config_of(unbroken, val=("b",)), lambda pulse: pulse.step == 2 and partial.symlink_to(FULL_DISK))
    assert not (unbroken / "model" / "checkpoint.pt").exists()
    assert not partial.is_symlink()
    finetune(config_of(unbroken, val=("b",), resume=True))
    assert same_results(unbroken / "model", unbroken / "unbroken")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "new:nothing"}, "--model new:nothing: there is no such architecture; give new:hybrid-tiny, "),
        ({"model": "new:swin_tiny_patch4_window7_224"}, "--model new:swin.*: .*cannot be used as an encoder"),
        ({"model": "nowhere/"}, "--model nowhere/: "),
        ({"tile_size": 36}, "--tile-size 36: must be a multiple of 8, the model's lattice"),
        ({"model": "new:resnet18"}, "--model new:resnet18: .*it is no plain vision transformer"),
        ({"device": "cuda:9"}, "--device cuda:9: "),
    ],
)
def test_what_cannot_begin_leaves_nothing(scenes, options, words):
    """Not even a folder."""
    with pytest.raises(UsageError, match=f"^{words}"):
        finetune(config_of(scenes, **options))
    assert not (scenes / "model").exists()


@pytest.mark.parametrize(
    ("model", "side", "words"),
    [
        ("new:vit_tiny_patch16_224", 40, "must be a multiple of 16, the model's lattice"),
        ("new:scalable-tiny", 544, "tile size 544x544: its maps do not divide into windows of .* such as 480x480"),
    ],
)
def test_the_tile_size_of_a_new_model_is_refused_before_data_are_read(tmp_path, model, side, words):
    """There are none here, and that is not what is told."""
    with pytest.raises(UsageError, match=f"^--tile-size {side}: {words}"):
        finetune(config_of(tmp_path / "nowhere", model=model, tile_size=side))


def test_a_palette_learns_nothing(scenes):
    """And is told so."""
    from eomt_core.palette import save_palette

    model = save_palette(scenes / "palette", [[0.0] * 3, [1.0] * 3])
    with pytest.raises(UsageError, match=r"--model .*palette: is a palette, which learns nothing; take new:"):
        finetune(config_of(scenes, model=str(model)))


def test_scenes_smaller_than_a_crop_will_do(tmp_path):
    """They lie somewhere in it."""
    folder = write_pairs(tmp_path, truth=lambda: stripes((20, 11)))
    assert math.isfinite(finetune(config_of(folder, steps=2, val=("b",))).last_loss)


@pytest.mark.parametrize(("dtype", "bands"), [("uint16", 1), ("float32", 4)])
def test_pixels_may_be_of_any_kind(tmp_path, dtype, bands):
    """Deep ones, and fractions; of four bands the first three."""
    folder = write_pairs(tmp_path, dtype=dtype, bands=bands)
    finetune(config_of(folder, steps=1))
    card = describe_model(str(folder / "model")).card
    assert len(card.value_range) == len(card.mean) == min(bands, 3)
    assert all(0.1 < mean < 0.9 for mean in card.mean)


def test_many_small_images_will_do(tmp_path, monkeypatch):
    """More than are kept open; each is opened again when it is its turn."""
    monkeypatch.setattr("pipeline.truth.samples.MANY", 2)
    monkeypatch.setattr("pipeline.finetune.validation.MANY", 2)
    folder = write_pairs(tmp_path, "abcdef", truth=lambda: discs((24, 24)))
    assert finetune(config_of(folder, task="instance", steps=2, val=("a", "b", "c"))).steps == 2
