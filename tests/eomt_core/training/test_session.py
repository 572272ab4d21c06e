"""A training as its callers see it: it begins, goes on where it stopped, labels tiles, and leaves a model."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_truth import draw_batch

from eomt_core import EoMT, ModelError, load_model
from eomt_core.card import ModelCard
from eomt_core.postprocess import semantic
from eomt_core.training.session import Beginning, Session, channel_statistics, training_precision
from eomt_core.training.trainer import Training

MakeSession = Callable[..., Session]
NAMES = {"semantic": ("ground", "disc", "square"), "instance": ("object",)}
THRESHOLDS = (0.0, 0.0, 0.5)


@pytest.fixture
def make_session(small_recipe: str) -> MakeSession:
    """Begin a training of a small model on the CPU."""

    def make(task: str = "semantic", masked: bool = False, **changes: Any) -> Session:
        mean, std = (0.2, 0.2, 0.2), (0.2, 0.2, 0.2)
        start = {"model": f"new:{small_recipe}", "classes": NAMES[task], "bands": 3, "image_size": 32}
        start |= {"one_each": task == "semantic", "mean": mean, "std": std, "seed": 3}
        beginning = Beginning(**{**start, **changes})
        return Session(beginning, Training(task, task == "instance", masked=masked, points=64, seed=3), "cpu")

    return make


def go(session: Session, steps: int, of: int = 6) -> list[float]:
    """Go on for some steps of a training of so many."""
    instances = session.trainer.training.task == "instance"
    first = session.step
    return [
        session.advance(draw_batch(step, 2, instances=instances), step / of) for step in range(first, first + steps)
    ]


def card(task: str = "semantic") -> ModelCard:
    """A card for what the training makes."""
    things = (0,) if task == "instance" else ()
    return ModelCard("small", NAMES[task], things, (task,))


@pytest.mark.parametrize(("task", "masked"), [("semantic", False), ("instance", False), ("instance", True)])
def test_a_training_that_was_killed_goes_on_as_if_it_had_not(
    make_session: MakeSession, tmp_path: Path, task: str, masked: bool
) -> None:
    """Six steps at a stretch, and three, a kill and three in a fresh session: the same losses and the same weights."""
    unbroken = make_session(task, masked)
    wanted = go(unbroken, 6)
    first = make_session(task, masked)
    before = go(first, 3)
    first.write_state(tmp_path / "state.pt", {"losses": before, "note": "here"})
    second = make_session(task, masked, seed=8)  # other random weights: all must come from the state
    assert second.read_state(tmp_path / "state.pt") == {"losses": before, "note": "here"}
    assert second.step == 3
    assert before + go(second, 3) == pytest.approx(wanted, abs=1e-6)
    for kept in ("model", "average.model"):
        found, expected = (_state(session, kept) for session in (second, unbroken))
        for name, part in expected.items():
            torch.testing.assert_close(found[name], part, rtol=0, atol=1e-6)


def _state(session: Session, path: str) -> dict[str, torch.Tensor]:
    model = session.trainer.model if path == "model" else session.trainer.average.model
    return model.state_dict()


@pytest.mark.parametrize("cut", [0, 1000])
def test_a_damaged_state_is_refused_with_its_path(make_session: MakeSession, tmp_path: Path, cut: int) -> None:
    """A file that was torn off says which it is and what to do."""
    path = tmp_path / "state.pt"
    session = make_session()
    session.write_state(path, {})
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ModelError, match=r"state\.pt: cannot be read .*--overwrite"):
        session.read_state(path)


def test_a_state_runs_no_code(make_session: MakeSession, tmp_path: Path) -> None:
    """A pickle that calls something is refused before it does."""
    torch.save({"training": _Trap(tmp_path / "sprung")}, tmp_path / "state.pt")
    with pytest.raises(ModelError, match="cannot be read"):
        make_session().read_state(tmp_path / "state.pt")
    assert not (tmp_path / "sprung").exists()


class _Trap:
    """Unpickled naively, this creates a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.mkdir, (self.path,)


def test_a_state_appears_whole(make_session: MakeSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk fails in the middle, the last state is still there."""
    session, path = make_session(), tmp_path / "state.pt"
    session.write_state(path, {"number": 1})

    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="no space"):
        session.write_state(path, {"number": 2})
    assert session.read_state(path) == {"number": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["state.pt"]


@pytest.mark.parametrize("half", [False, True])
def test_the_saved_model_answers_as_the_session_labels(make_session: MakeSession, tmp_path: Path, half: bool) -> None:
    """What is saved is the average without masks, the one that `label` looks through."""
    session = make_session()
    go(session, 3)
    session.save(tmp_path, card(), half=half)
    model, pixels = load_model(tmp_path), draw_batch(9, 1).pixels
    assert isinstance(model, EoMT)
    assert model.attn_mask_probs.tolist() == [0, 0]
    with torch.no_grad():
        found = semantic(model.eval()(torch.from_numpy(pixels)), (32, 32))[0].numpy()
    labels = session.label(pixels[0], THRESHOLDS)
    assert (labels.dtype, labels.shape) == (np.int32, (32, 32))
    assert (found == labels).mean() > (0.98 if half else 0.9999)


def test_a_masked_training_is_judged_as_it_is_saved(make_session: MakeSession, tmp_path: Path) -> None:
    """Saving changes nothing of what a tile is labelled with, and saves no masks, while the training still masks."""
    session = make_session("instance", masked=True)
    go(session, 1)
    pixels = draw_batch(9, 1).pixels[0]
    before = session.label(pixels, THRESHOLDS)
    session.save(tmp_path, card("instance"), half=False)
    assert np.array_equal(session.label(pixels, THRESHOLDS), before)
    assert session.trainer.model.attn_mask_probs.tolist() == [1, 1]
    saved = load_model(tmp_path)
    assert isinstance(saved, EoMT)
    assert saved.attn_mask_probs.tolist() == [0, 0]


def test_objects_are_numbered_from_one(make_session: MakeSession) -> None:
    """Background is 0; without a threshold the 9 queries share all pixels."""
    session = make_session("instance")
    pixels = draw_batch(0, 1, size=40).pixels[0]
    labels = session.label(pixels, THRESHOLDS)
    assert labels.shape == (40, 40)
    assert set(np.unique(labels)) <= set(range(10))
    assert not session.label(pixels, (0.9999, 0.0, 0.5)).any()


def test_a_trained_model_is_the_beginning_of_another(make_session: MakeSession, tmp_path: Path) -> None:
    """Its weights go on, with another band and another class, and it still learns."""
    first = make_session()
    go(first, 2)
    first.save(tmp_path, card(), half=False)
    changes = {"bands": 4, "classes": ("square", "ring"), "known_classes": NAMES["semantic"]}
    second = make_session(model=str(tmp_path), **changes)
    old, new = first.trainer.average.model, second.trainer.model
    assert torch.equal(new.get_parameter("mask_head.0.weight"), old.get_parameter("mask_head.0.weight"))
    assert torch.equal(new.class_head.weight[0], old.class_head.weight[2])
    assert (new.encoder.in_channels, new.num_classes, new.num_q) == (4, 2, 2)
    batch = draw_batch(0, 2)
    wide = np.concatenate([batch.pixels, batch.pixels[:, :1]], axis=1)
    assert math.isfinite(second.advance(batch._replace(pixels=wide, labels=np.minimum(batch.labels, 1)), 0.5))


def test_sizes_are_the_models(make_session: MakeSession) -> None:
    """The session tells the tile that positions are made for and the lattice of tiles."""
    session = make_session(image_size=48)
    assert (session.image_size, session.lattice, session.step) == ((48, 48), 8, 0)


def test_crops_divide_into_windows(make_session: MakeSession) -> None:
    """Not all that are on the lattice do; of a plain ViT they do all."""
    spatial, plain = make_session(model="new:scalable-tiny", image_size=64), make_session(image_size=64)
    sides = (64, 68, 512, 544)
    assert [spatial.takes(side) for side in sides] == [True, False, True, False]
    assert [plain.takes(side) for side in sides] == [True, False, True, True]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "new:nothing"}, "knows no architecture 'nothing'"),
        ({"image_size": 20}, "training size 20 is no multiple of 8"),
        ({"model": "no/such/place"}, "no/such/place"),
    ],
)
def test_beginnings_that_are_none_are_refused(
    make_session: MakeSession, changes: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line says what is wrong with the model."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match=message):
        make_session(**changes)


def test_devices_that_are_not_there_are_refused(small_recipe: str) -> None:
    """So is a precision that nobody has decided."""
    start = (True, 3, 32, (0.2,) * 3, (0.2,) * 3, 0)
    beginning = Beginning(f"new:{small_recipe}", NAMES["semantic"], *start)
    with pytest.raises(ModelError, match="cuda:99"):
        Session(beginning, Training("semantic", False), "cuda:99")
    with pytest.raises(ModelError, match="precision"):
        Session(beginning, Training("semantic", False, precision="auto"), "cpu")


def test_precision_on_a_cpu() -> None:
    """What is asked for is taken; `auto` is bf16 where the processor computes with it, never fp16."""
    assert training_precision("fp32", "cpu") == "fp32"
    assert training_precision("auto", "cpu") in ("fp32", "bf16")


def test_statistics_are_per_band() -> None:
    """Mean and spread are over all pixels of all crops, whatever their sizes; a flat band has a spread above 0."""
    crops = [np.full((2, 4, 4), 0.25, np.float32), np.full((2, 2, 8), 0.75, np.float32)]
    crops[1][1] = 0.25
    assert channel_statistics(crops) == ((0.5, 0.25), (0.25, 0.001))
