"""Models of the transformers library, loaded by us, answer as they do there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from eomt_core import load_model
from eomt_core.card import IMAGENET_MEAN, IMAGENET_STD


def pixels(rows: int = 160, columns: int = 160) -> Tensor:
    """Two images of noise."""
    return torch.rand(2, 3, rows, columns, generator=torch.Generator().manual_seed(1))


def answer(model: Any, *size: int) -> tuple[Tensor, Tensor]:
    """What transformers answers; it expects pixels that are normalised already."""
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.no_grad():
        output = model(pixel_values=(pixels(*size) - mean) / std)
    return output.masks_queries_logits, output.class_queries_logits


def distance(oracle: Any, directory: Path, *size: int) -> float:
    """The largest difference in any mask or class logit."""
    oracle.save_pretrained(directory)
    with torch.no_grad():
        ours = load_model(directory).eval()(pixels(*size))
    masks, classes = answer(oracle, *size)
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


@pytest.mark.parametrize("probs", [(0.0, 0.0, 0.0), (1.0, 1.0, 1.0)])
@pytest.mark.parametrize("size", [(160, 160), (128, 224)])
def test_dinov3_is_that_of_transformers(
    make_dinov3: Callable[..., Any], tmp_path: Path, size: tuple[int, int], probs: tuple[float, ...]
) -> None:
    """With rotary positions, masked or not, the logits agree to 2e-5, also on a grid that it was not made for."""
    oracle = make_dinov3(probs)
    oracle.grid_size = (size[0] // 16, size[1] // 16)  # which it would keep from its configuration
    assert distance(oracle, tmp_path, *size) < 2e-5


@pytest.mark.parametrize("changes", [{"layer_norm_eps": 1e-3}, {"rope_parameters": {"rope_theta": 30.0}}])
def test_numbers_of_dinov3_come_from_the_configuration(
    make_dinov3: Callable[..., Any], tmp_path: Path, changes: dict[str, object]
) -> None:
    """The epsilon of the norms and the base of the rotary positions are in no tensor: they are those that it states."""
    oracle = make_dinov3(**changes)
    assert distance(oracle, tmp_path) < 2e-5
    usual, other = (answer(model)[0] for model in (make_dinov3(), oracle))
    assert (usual - other).abs().max() > 1e-3
