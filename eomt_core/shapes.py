"""The architecture that tensor shapes tell, and the shapes that an architecture has: each checks the other."""

import math
from collections.abc import Mapping
from typing import Any

from eomt_core.card import Architecture
from eomt_core.errors import ModelError
from eomt_core.formats import PROBS, Format, is_rotary, name_in_file
from eomt_core.headers import Shape

_BACKBONE = "encoder.backbone."
_HEAD_WIDTH = 64  # of every published EoMT
_BLOCKS_OF_DEPTH = {12: 3, 24: 4, 40: 5}  # of the published sizes S and B, L, g
_ROTARY_SIDE, _ROTARY_EPS, _ROTARY_THETA = 640, 1e-5, 100.0  # of most published EoMTs with DINOv3, and of DINOv3
_SHOWN = 5
_FETCH = "the files are not those of one whole model, fetch them again"


def infer_architecture(shapes: Mapping[str, Shape], stated: Mapping[str, Any]) -> Architecture:
    """Infer the architecture from shapes by own name, and from what is stated where shapes cannot tell.

    Shapes cannot tell the head width (64 unless stated), the epsilon of the norms, whether 2048 positions are 32 x 64
    or 64 x 32 (square unless stated), the training size where positions are rotary (640 unless stated), and, without
    the annealing buffer, how many blocks see the queries.

    Args:
        shapes: by own name.
        stated: fields of `Architecture` that a configuration states.

    Raises:
        ModelError: a tensor that everything hangs on is missing, or what is stated contradicts the shapes.
    """
    stem = _stem(shapes)
    dim, channels, patch = _patches(shapes, stem)
    hidden = _shape(shapes, f"{_BACKBONE}blocks.0.mlp.fc1.weight", 2)[0]
    found: dict[str, Any] = {
        "embed_dim": dim,
        "depth": _count_blocks(shapes, f"{_BACKBONE}blocks."),
        "patch_size": patch,
        "in_channels": channels,
        "num_queries": _shape(shapes, "q.weight", 2)[0],
        "num_classes": _shape(shapes, "class_head.weight", 2)[0] - 1,
        "num_upscale": _count_blocks(shapes, "upscale.convs." if stem else "upscale."),
        "mlp_hidden": hidden,
        "swiglu": hidden == 2 * _shape(shapes, f"{_BACKBONE}blocks.0.mlp.fc2.weight", 2)[1],
        "layer_scale": any(name.endswith((".ls1.gamma", ".ls2.gamma", ".gamma_1", ".gamma_2")) for name in shapes),
        "stem": stem,
        "mask_width": _shape(shapes, "upscale.patches.weight", 4)[0] if stem else 0,
    }
    rotary = is_rotary(shapes)
    found |= _prefix(shapes, stated)
    found |= _rotations(found, stated) if rotary else _positions(shapes, found, stated)
    found["num_blocks"] = _num_blocks(shapes, found["depth"], stated)
    found["num_heads"] = stated.get("num_heads") or _num_heads(dim)
    _check_stated(found, stated)
    return Architecture(**found, norm_eps=stated.get("norm_eps", _ROTARY_EPS if rotary else 1e-6))


def expected_shapes(architecture: Architecture) -> dict[str, Shape]:
    """Return the shape of every tensor that a model of this architecture has, by own name."""
    a, dim = architecture, architecture.embed_dim
    shapes: dict[str, Shape] = {
        **({} if a.rope_theta else {f"{_BACKBONE}pos_embed": (1, a.pos_rows, dim)}),
        **_patch_shapes(a),
        **_norm(f"{_BACKBONE}norm", dim),
        "q.weight": (a.num_queries, dim),
        **_linear("class_head", a.num_classes + 1, dim),
        PROBS: (a.num_blocks,),
    }
    if a.cls_token:
        shapes[f"{_BACKBONE}cls_token"] = (1, 1, dim)
    if a.num_registers:
        shapes[f"{_BACKBONE}reg_token"] = (1, a.num_registers, dim)
    for layer, width in ((0, dim), (2, dim), (4, a.mask_width or dim)):
        shapes |= _linear(f"mask_head.{layer}", width, dim)
    for index in range(a.depth):
        shapes |= _block_shapes(f"{_BACKBONE}blocks.{index}.", a)
    if a.stem:
        return shapes | _skip_shapes(a)
    for index in range(a.num_upscale):
        shapes |= _upscale_shapes(f"upscale.{index}.", dim)
    return shapes


def check_shapes(shapes: Mapping[str, Shape], architecture: Architecture, spelling: Format = "own") -> None:
    """Check that the tensors are exactly those of the architecture; only the annealing buffer may be missing.

    Raises:
        ModelError: names, in the spelling of the file, what is missing, unexpected or of another shape.
    """
    expected = expected_shapes(architecture)
    missing = [name for name in expected if name not in shapes and name != PROBS]
    surplus = [name for name in shapes if name not in expected]
    other = [name for name in expected if name in shapes and shapes[name] != expected[name]]
    kind = {"gated": architecture.swiglu, "rotary": architecture.rope_theta > 0}
    if missing:
        names = [name_in_file(name, spelling, **kind) for name in missing]
        raise ModelError(f"{_count(names)} missing: {_list(names)}; {_FETCH}")
    if surplus:
        names = [name_in_file(name, spelling, **kind) for name in surplus]
        raise ModelError(f"{_count(names)} unexpected: {_list(names)}; check that this is an EoMT's file")
    if other:
        raise ModelError(
            f"{_count(other)} of another shape than the rest implies: "
            + _list([f"{name} is {shapes[name]}, not {expected[name]}" for name in other])
            + f"; {_FETCH}"
        )


def _count(names: list[str]) -> str:
    return "1 tensor is" if len(names) == 1 else f"{len(names)} tensors are"


def _list(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")


def _block_shapes(prefix: str, a: Architecture) -> dict[str, Shape]:
    dim = a.embed_dim
    if a.rope_theta:  # timm's Eva block: keys have no bias
        biases, scales = {"attn.q_bias": dim, "attn.v_bias": dim}, ("gamma_1", "gamma_2")
    else:
        biases, scales = {"attn.qkv.bias": 3 * dim}, ("ls1.gamma", "ls2.gamma")
    vectors = biases | (dict.fromkeys(scales, dim) if a.layer_scale else {})
    return {
        **_norm(f"{prefix}norm1", dim),
        f"{prefix}attn.qkv.weight": (3 * dim, dim),
        **_linear(f"{prefix}attn.proj", dim, dim),
        **_norm(f"{prefix}norm2", dim),
        **_linear(f"{prefix}mlp.fc1", a.mlp_hidden, dim),
        **_linear(f"{prefix}mlp.fc2", dim, a.mlp_hidden // 2 if a.swiglu else a.mlp_hidden),
        **{f"{prefix}{name}": (length,) for name, length in vectors.items()},
    }


def _upscale_shapes(prefix: str, dim: int) -> dict[str, Shape]:
    convolutions: dict[str, Shape] = {
        f"{prefix}conv1.weight": (dim, dim, 2, 2),
        f"{prefix}conv1.bias": (dim,),
        f"{prefix}conv2.weight": (dim, 1, 3, 3),
    }
    return convolutions | _norm(f"{prefix}norm", dim)


def _patch_shapes(a: Architecture) -> dict[str, Shape]:
    """The patch embedding: one convolution, or the layers of a stem."""
    prefix, dim = f"{_BACKBONE}patch_embed.proj.", a.embed_dim
    if not a.stem:
        return {f"{prefix}weight": (dim, a.in_channels, a.patch_size, a.patch_size), f"{prefix}bias": (dim,)}
    shapes: dict[str, Shape] = {f"{prefix}out.weight": (dim, a.stem[-1], 3, 3), f"{prefix}out.bias": (dim,)}
    for index, (channels, width) in enumerate(zip((a.in_channels, *a.stem), a.stem, strict=False)):
        shapes |= _conv_norm(f"{prefix}layers.{index}", channels, width)
    return shapes


def _skip_shapes(a: Architecture) -> dict[str, Shape]:
    """The upscaling that adds the finer maps of a stem."""
    width = a.mask_width or a.embed_dim
    shapes: dict[str, Shape] = {
        "upscale.patches.weight": (width, a.embed_dim, 1, 1),
        "upscale.patches.bias": (width,),
    }
    for index, skip in enumerate(a.stem[-a.num_upscale :]):
        shapes[f"upscale.skips.{index}.weight"] = (width, skip, 1, 1)
        shapes |= _conv_norm(f"upscale.convs.{index}", width, width)
    return shapes


def _conv_norm(name: str, channels: int, width: int) -> dict[str, Shape]:
    """A 3 x 3 convolution and its batch norm."""
    parts = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.conv.weight": (width, channels, 3, 3)} | {f"{name}.norm.{part}": (width,) for part in parts}


def _linear(name: str, rows: int, columns: int) -> dict[str, Shape]:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def _norm(name: str, dim: int) -> dict[str, Shape]:
    return {f"{name}.weight": (dim,), f"{name}.bias": (dim,)}


def _shape(shapes: Mapping[str, Shape], name: str, rank: int) -> Shape:
    """Return the shape of a tensor that must be there."""
    if name not in shapes:
        raise ModelError(f"tensor {name} is missing; {_FETCH}")
    if len(shapes[name]) != rank or 0 in shapes[name]:
        raise ModelError(f"tensor {name} has shape {shapes[name]}, {rank} axes were expected")
    return shapes[name]


def _stem(shapes: Mapping[str, Shape]) -> tuple[int, ...]:
    """Read the widths of the stem's layers; none where patches are cut in one step."""
    prefix = f"{_BACKBONE}patch_embed.proj.layers."
    layers = range(_count_blocks(shapes, prefix))
    return tuple(_shape(shapes, f"{prefix}{index}.conv.weight", 4)[0] for index in layers)


def _patches(shapes: Mapping[str, Shape], stem: tuple[int, ...]) -> tuple[int, int, int]:
    """Read token width, bands and patch size off the patch embedding."""
    if stem:
        prefix = f"{_BACKBONE}patch_embed.proj."
        bands = _shape(shapes, f"{prefix}layers.0.conv.weight", 4)[1]
        return _shape(shapes, f"{prefix}out.weight", 4)[0], bands, 2 ** (len(stem) + 1)
    dim, channels, rows, columns = _shape(shapes, f"{_BACKBONE}patch_embed.proj.weight", 4)
    if rows != columns:
        raise ModelError(f"patches of {rows}x{columns} pixels; only square ones are supported")
    return dim, channels, rows


def _count_blocks(shapes: Mapping[str, Shape], prefix: str) -> int:
    numbers = {name.removeprefix(prefix).partition(".")[0] for name in shapes if name.startswith(prefix)}
    # A hostile name must not make a model of a billion blocks; beyond four digits it is left to be unexpected.
    return 1 + max((int(number) for number in numbers if number.isdecimal() and len(number) < 5), default=-1)


def _prefix(shapes: Mapping[str, Shape], stated: Mapping[str, Any]) -> dict[str, Any]:
    """Tell class and register tokens; unless stated otherwise a class token must be there."""
    registers = shapes.get(f"{_BACKBONE}reg_token", (1, 0, 0))
    if len(registers) != 3:
        raise ModelError(f"tensor {_BACKBONE}reg_token has shape {registers}, 3 axes were expected")
    return {"cls_token": bool(stated.get("cls_token", True)), "num_registers": registers[1]}


def _positions(shapes: Mapping[str, Shape], found: Mapping[str, Any], stated: Mapping[str, Any]) -> dict[str, Any]:
    """Tell the training size, and whether the position table has rows for the prefix tokens."""
    rows, patch = _shape(shapes, f"{_BACKBONE}pos_embed", 3)[1], found["patch_size"]
    prefix = int(found["cls_token"]) + found["num_registers"]
    if "image_size" in stated:
        size = stated["image_size"]
        cells = (size[0] // patch) * (size[1] // patch)
    else:
        side = math.isqrt(rows) if math.isqrt(rows) ** 2 == rows else math.isqrt(max(0, rows - prefix))
        size, cells = (side * patch, side * patch), side**2
    if cells not in (rows, rows - prefix):
        asked = "x".join(map(str, size)) if "image_size" in stated else "a square"
        raise ModelError(
            f"{rows} positions are no grid for {asked} training size with patches of {patch} pixels; "
            f"state the image_size (rows, columns) in the configuration"
        )
    if cells == rows and prefix:
        _check_registers(found, stated)
    return {"image_size": tuple(size), "no_embed_class": cells == rows}


def _check_registers(found: Mapping[str, Any], stated: Mapping[str, Any]) -> None:
    """Miss the register tokens that come with positions for patches alone, unless a configuration says otherwise.

    A file that has lost them would load as another function.
    """
    if not found["num_registers"] and "num_registers" not in stated:
        raise ModelError(f"tensor {_BACKBONE}reg_token is missing; {_FETCH}")


def _rotations(found: Mapping[str, Any], stated: Mapping[str, Any]) -> dict[str, Any]:
    """Tell the training size and the base of rotary positions, of which no tensor speaks."""
    _check_registers(found, stated)
    side = round(_ROTARY_SIDE / found["patch_size"]) * found["patch_size"]
    return {
        "image_size": tuple(stated.get("image_size", (side, side))),
        "no_embed_class": True,
        "rope_theta": stated.get("rope_theta") or _ROTARY_THETA,
    }


def _num_blocks(shapes: Mapping[str, Shape], depth: int, stated: Mapping[str, Any]) -> int:
    if PROBS in shapes:
        return _shape(shapes, PROBS, 1)[0]
    number = stated.get("num_blocks") or _BLOCKS_OF_DEPTH.get(depth)
    if number is None:
        raise ModelError(f"{PROBS} is missing, and no configuration states num_blocks for an encoder of depth {depth}")
    return int(number)


def _num_heads(dim: int) -> int:
    if dim % _HEAD_WIDTH:
        raise ModelError(f"token width {dim} is no multiple of {_HEAD_WIDTH}: state the number of attention heads")
    return dim // _HEAD_WIDTH


def _check_stated(found: Mapping[str, Any], stated: Mapping[str, Any]) -> None:
    for name, value in stated.items():
        if name in found and found[name] != value:
            raise ModelError(f"the configuration states {name} {value}, the weights have {found[name]}; {_FETCH}")
