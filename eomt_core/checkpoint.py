"""Models from files and back: every published spelling is read, our own is written."""

import math
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from eomt_core import formats
from eomt_core.backbone import BACKBONE, build_backbone
from eomt_core.card import Architecture, ModelCard, PaletteArchitecture
from eomt_core.describe import ModelInfo, card_text, describe_model
from eomt_core.encoders.timm_eva import of_timm
from eomt_core.encoders.timm_vit import TimmViT
from eomt_core.eomt import EoMT
from eomt_core.errors import ModelError
from eomt_core.families import adapter_of, build_family, family_of
from eomt_core.family import FamilyArchitecture
from eomt_core.formats import PIXEL_STATISTICS, PROBS, Algebra, dinov3_to_own, to_own, to_reference
from eomt_core.location import OWN_CARD, WEIGHTS
from eomt_core.mask_transformer import MaskTransformer
from eomt_core.palette import PaletteModel, load_palette
from eomt_core.shapes import check_shapes, infer_architecture
from eomt_core.writing import system_errors

__all__ = [
    "architecture_of",
    "build_model",
    "describe_model",
    "load_model",
    "save_model",
    "to_huggingface",
    "to_reference",
]

State = dict[str, Tensor]
_TENSORS = Algebra[Tensor](
    join=lambda parts: torch.cat(tuple(parts)),
    split=lambda tensor, count: tensor.chunk(count),
    add_axis=lambda tensor: tensor.unsqueeze(0),
    drop_axis=lambda tensor: tensor.squeeze(0),
)


def load_model(location: str | Path, base: str | Path | None = None) -> MaskTransformer | PaletteModel:
    """Make the model that a directory, a file or a hub id names, with parameters in float32 on the CPU.

    Loading is strict: what is missing is never made up, save the annealing buffer, whose absence means no masks.

    Args:
        location: see `describe_model`.
        base: likewise.

    Raises:
        ModelError: no such model; damaged, hostile, incomplete or unsupported weights; one line that says which.
    """
    return build_model(describe_model(location, base))


def build_model(info: ModelInfo) -> MaskTransformer | PaletteModel:
    """Make the model that was described.

    Raises:
        ModelError: the weights cannot be read.
    """
    if isinstance(info.architecture, PaletteArchitecture):
        return load_palette(info.weights[0], info.architecture)
    try:
        raw = _read_all(info.weights)
        mean, std = _pixel_statistics(raw, info.card)
        if isinstance(info.architecture, FamilyArchitecture):
            return _filled(build_family(info.architecture, mean, std), raw)
        state = _to_float32(to_own(raw, _TENSORS), info.architecture)
        if info.base and info.base.weights:
            raw.clear()  # never three copies at a time
            _add(state, info.base.weights)
            mean, std = info.card.mean, info.card.std  # the file says by how much they differ from themselves
        return _assemble(info.architecture, state, mean, std)
    except ModelError as error:
        raise ModelError(f"{info.path}: {error}") from error


def save_model(
    model: MaskTransformer, directory: str | Path, card: ModelCard, dtype: torch.dtype = torch.float32
) -> None:
    """Write a model in our own format: `model.safetensors` and `eomt_batch.json`.

    Each file appears whole or not at all, the card last, so an interrupted save leaves no directory that passes for a
    model. Mean and standard deviation in the card are those of the model.

    Args:
        model: an EoMT on a plain ViT, or one that `build_family` made.
        directory: made if it is not there.
        card: what the model was trained for.
        dtype: storage of the weights, `torch.float32` or `torch.float16`; they are read back as float32.

    Raises:
        ModelError: the card is for another model, a weight is not finite in `dtype`, or the encoder is no plain ViT.
        OSError: a file cannot be written, as when the disk is full.
    """
    architecture = family_of(model) or architecture_of(model)
    card = _with_statistics(card, model)
    card.check_fits(architecture)
    state = {name: _stored(name, tensor, dtype) for name, tensor in model.state_dict().items()}
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    # The format is named because other readers of safetensors refuse files that do not say whose tensors they hold.
    _write_whole(directory / WEIGHTS, lambda path: save_file(state, path, metadata={"format": "pt"}))
    _write_whole(directory / OWN_CARD, lambda path: path.write_text(card_text(architecture, card), encoding="utf-8"))


def architecture_of(model: MaskTransformer) -> Architecture:
    """Tell the architecture of a model.

    Raises:
        ModelError: its encoder is not the plain ViT that an `Architecture` can describe.
    """
    encoder = model.encoder
    if not isinstance(encoder, TimmViT) or not isinstance(encoder.backbone.norm, nn.LayerNorm):
        raise ModelError(f"cannot save an encoder of type {type(encoder).__name__} without a final LayerNorm")
    backbone = encoder.backbone
    stated = {
        "num_heads": backbone.blocks[0].attn.num_heads,
        "norm_eps": backbone.norm.eps,
        "image_size": encoder.training_size,
        "cls_token": backbone.cls_token is not None,
        "num_registers": 0 if backbone.reg_token is None else backbone.reg_token.shape[1],
        "rope_theta": getattr(getattr(backbone, "rope", None), "temperature", 0.0),
    }
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    architecture = infer_architecture(shapes, stated)
    check_shapes(shapes, architecture)
    _check_rebuilds(encoder, architecture)
    return architecture


def to_huggingface(state: Mapping[str, Tensor]) -> State:
    """Convert a model's state to the names and shapes of the Hugging Face port.

    Raises:
        ModelError: the port has no place for a tensor.
    """
    name = f"{BACKBONE}blocks.0.mlp"
    gated = state[f"{name}.fc1.weight"].shape[0] == 2 * state[f"{name}.fc2.weight"].shape[1]
    return formats.to_huggingface(state, _TENSORS, gated=gated)


def _read_all(files: Sequence[Path]) -> State:
    return {name: tensor for file in files for name, tensor in _read_tensors(file).items()}


def _read_tensors(file: Path) -> State:
    """Read the tensors of a file that `describe_model` has accepted; pickles with weights only, or not at all."""
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    # What damaged or hostile files raise here is not a closed list, and nothing else is tried after it.
    except Exception as error:
        raise ModelError(
            f"{file.name} cannot be read ({type(error).__name__}: {' '.join(str(error).split())})"
        ) from error
    nested = loaded.get("state_dict")
    loaded = nested if isinstance(nested, dict) else loaded
    return {name: tensor for name, tensor in loaded.items() if isinstance(tensor, Tensor)}


def _pixel_statistics(raw: Mapping[str, Tensor], card: ModelCard) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and std that the weights were trained with: the file's own if it holds them, else the card's."""
    plain = {name.removeprefix("network."): tensor for name, tensor in raw.items()}
    if not all(name in plain for name in PIXEL_STATISTICS):
        return card.mean, card.std
    mean, std = (tuple(plain[name].flatten().tolist()) for name in PIXEL_STATISTICS)
    return mean, std


def _add(state: State, base: Sequence[Path]) -> None:
    """Add the weights of a base to the differences from it, in place."""
    for name, tensor in dinov3_to_own(_read_all(base), _TENSORS).items():
        if name in state:
            state[name] += tensor


def _filled(model: MaskTransformer, raw: Mapping[str, Tensor]) -> MaskTransformer:
    """Put weights into a model, each where its name says."""
    try:
        model.load_state_dict({name: tensor.to(torch.float32) for name, tensor in raw.items()}, strict=True)
    except RuntimeError as error:
        raise ModelError(f"its weights are not those of its card: {' '.join(str(error).split())[:300]}") from error
    return model


def _to_float32(own: Mapping[str, Tensor], architecture: Architecture) -> State:
    """Copy out of the file, which may be mapped into memory and may change or go while the model lives."""
    state = {PROBS: torch.zeros(architecture.num_blocks)}
    for name, tensor in own.items():
        if not tensor.is_floating_point():
            raise ModelError(f"{name} holds {tensor.dtype} instead of floats; quantised weights are not supported")
        if tensor.numel():
            state[name] = tensor.to(torch.float32, copy=True)
    return state


def _assemble(architecture: Architecture, state: State, mean: tuple[float, ...], std: tuple[float, ...]) -> EoMT:
    """Put a model together around its tensors; on the meta device, as random weights are made only to be replaced."""
    a = architecture
    backbone = build_backbone(a, {name: tensor for name, tensor in state.items() if name.startswith(BACKBONE)})
    encoder = of_timm(backbone, mean=mean, std=std)
    encoder.self_test()
    with torch.device("meta"):
        width = a.mask_width or None
        model = EoMT(encoder, a.num_classes, a.num_queries, a.num_blocks, a.num_upscale, mask_width=width)
    model.load_state_dict(state, strict=True, assign=True)
    return model


@torch.no_grad()
def _check_rebuilds(encoder: TimmViT, architecture: Architecture) -> None:
    """Check that what a reader will build computes the same: shapes do not tell activations or the order of norms."""
    state = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    mean, std = (buffer.flatten().tolist() for buffer in (encoder.pixel_mean, encoder.pixel_std))
    rebuilt = of_timm(build_backbone(architecture, state), mean=mean, std=std).to(encoder.pixel_mean.device).eval()
    size = (1, architecture.in_channels, 2 * architecture.patch_size, 3 * architecture.patch_size)
    pixels = torch.linspace(0, 1, math.prod(size)).reshape(size).to(encoder.pixel_mean)
    training = encoder.training
    difference = (encoder.eval().features(pixels) - rebuilt.features(pixels)).abs().max()
    encoder.train(training)
    if not difference <= 1e-4:
        raise ModelError(
            f"cannot save this encoder: as a plain ViT it computes other features (off by {difference:.2g})"
        )


def _with_statistics(card: ModelCard, model: MaskTransformer) -> ModelCard:
    """Put the model's mean and std on the card, in the fewest digits that give the same float32 again."""
    encoder, _ = adapter_of(model)
    mean, std = (
        tuple(float(str(np.float32(value))) for value in buffer.flatten().tolist())
        for buffer in (encoder.pixel_mean, encoder.pixel_std)
    )
    return replace(card, mean=mean, std=std)


def _stored(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    # The annealing probabilities are few, and 0.9 must not come back as 0.8999.
    stored = tensor.detach().to("cpu", torch.float32 if name == PROBS else dtype).contiguous()
    if not torch.isfinite(stored).all():
        raise ModelError(f"{name} is not finite in {dtype}; train with a lower rate, or save as torch.float32")
    return stored


def _write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside the target, sync, then put in its place."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with system_errors(path):
            write(temporary)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
