"""The commands on the embedded models' cards do what is said there: their first losses come out again."""

import json
from contextlib import closing
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from real_scenes import write_scenes

from eomt_core.location import EMBEDDED
from eomt_core.training.session import Session
from pipeline.finetune.config import FinetuneConfig
from pipeline.finetune.data import open_data
from pipeline.finetune.drawn import drawn_pairs
from pipeline.finetune.plan import choose_plan, choose_sampler, describe_start, progress

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        torch.backends.cpu.get_cpu_capability() != "AVX512" or not torch.ops.mkldnn._is_mkldnn_bf16_supported(),
        reason="the losses were made on a CPU that computes bfloat16 (AVX-512)",
    ),
]


def choices(name: str, output: Path) -> FinetuneConfig:
    """What a model was trained with."""
    content = json.loads((EMBEDDED / name / "finetune.json").read_text(encoding="utf-8"))
    known = {field.name for field in fields(FinetuneConfig)}
    chosen = {key: tuple(value) if isinstance(value, list) else value for key, value in content.items() if key in known}
    return FinetuneConfig(**chosen, output=str(output), threads=1)


def first_losses(name: str, output: Path, steps: int = 100) -> list[float]:
    """The losses of the first steps of a training."""
    config = choices(name, output)
    start = describe_start(config)
    with (
        drawn_pairs(config.drawn, config.classes) as drawn,
        closing(open_data(config, start.task, None, None, drawn)) as data,
    ):
        plan = choose_plan(config, start, data)
        session = Session(plan.beginning, plan.training, "cpu", 1)
        batches = choose_sampler(config, start, data, session).batches()
        return [session.advance(next(batches), progress(config, step, 0)) for step in range(steps)]


def stored_losses(name: str, steps: int = 100) -> list[float]:
    """The losses that came with a model."""
    table = np.loadtxt(EMBEDDED / name / "losses.csv", delimiter=",", skiprows=1)
    return table[:steps, 1].tolist()


@pytest.mark.soak  # 48 scenes are drawn first
def test_aerial_tiny(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Five aerial scenes and drawn ones: the same losses to 1e-3."""
    write_scenes(data_dir, tmp_path, (4, 5, 6, 7, 8))
    monkeypatch.chdir(tmp_path)
    found = first_losses("aerial-tiny", tmp_path / "again")
    assert np.abs(np.subtract(found, stored_losses("aerial-tiny"))).max() <= 1e-3


@pytest.mark.parametrize("steps", [25, pytest.param(100, marks=pytest.mark.again)])
def test_nuclei_tiny(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int):
    """The images that are not for validation: the same losses to 1e-3."""
    for name in ("images", "labels"):
        (tmp_path / name).symlink_to(data_dir / "nuclei" / name)
    (tmp_path / "validation.txt").write_text((EMBEDDED / "nuclei-tiny" / "validation.txt").read_text())
    monkeypatch.chdir(tmp_path)
    found = first_losses("nuclei-tiny", tmp_path / "again", steps)
    assert np.abs(np.subtract(found, stored_losses("nuclei-tiny", steps))).max() <= 1e-3
