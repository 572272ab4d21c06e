"""Models of the transformers library, loaded by us, answer as they do there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from eomt_core import load_model
from eomt_core.card import IMAGENET_MEAN, IMAGENET_STD


def pixels() -> Tensor:
    """Two images of noise."""
    return torch.rand(2, 3, 160, 160, generator=torch.Generator().manual_seed(1))


def answer(model: Any) -> tuple[Tensor, Tensor]:
    """What transformers answers; it expects pixels that are normalised already."""
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.no_grad():
        output = model(pixel_values=(pixels() - mean) / std)
    return output.masks_queries_logits, output.class_queries_logits


def distance(oracle: Any, directory: Path) -> float:
    """The largest difference in any mask or class logit."""
    oracle.save_pretrained(directory)
    with torch.no_grad():
        ours = load_model(directory).eval()(pixels())
    masks, classes = answer(oracle)
    return max(float((ours.mask_logits - masks).abs().max()), float((ours.class_logits - classes).abs().max()))


@pytest.mark.parametrize("changes", [{}, {"use_swiglu_ffn": True}, {"num_upscale_blocks": 1}, {"layer_norm_eps": 1e-3}])
def test_logits_are_those_of_transformers(
    make_huggingface: Callable[..., Any], tmp_path: Path, changes: dict[str, object]
) -> None:
    """Without masks the logits agree to 1e-5, with either MLP, any upscaling and the epsilon of the configuration."""
    assert distance(make_huggingface(**changes), tmp_path) < 1e-5


@pytest.mark.parametrize("changes", [{}, {"use_swiglu_ffn": True}])
def test_masked_logits_are_those_of_transformers(
    make_huggingface: Callable[..., Any], tmp_path: Path, changes: dict[str, object]
) -> None:
    """With masked attention in every query block the logits agree to 5e-5."""
    assert distance(make_huggingface(probs=(1.0, 1.0, 1.0), **changes), tmp_path) < 5e-5


def test_masks_matter(make_huggingface: Callable[..., Any]) -> None:
    """The weights of these tests are such that masked and unmasked answers lie far apart."""
    free, masked = (answer(make_huggingface(probs=probs))[0] for probs in ((0.0,) * 3, (1.0,) * 3))
    assert (free - masked).abs().max() > 0.1


def test_normalisation_comes_from_the_preprocessor(make_huggingface: Callable[..., Any], tmp_path: Path) -> None:
    """Mean and standard deviation are read from `preprocessor_config.json`."""
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0, 0, 0], "image_std": [1, 1, 1]}')
    assert distance(make_huggingface(), tmp_path) > 0.1
    assert dict(load_model(tmp_path).named_buffers())["encoder.pixel_std"].flatten().tolist() == [1, 1, 1]
