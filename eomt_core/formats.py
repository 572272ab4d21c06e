"""The spellings of EoMT weights, told apart by tensor names alone.

Three spellings exist: the reference repository's (`network.` before every name), the Hugging Face port's, and our own,
which is the reference's without the prefix. Models with rotary positions (DINOv3) differ: there the reference calls the
parts of its encoder nearly as the port does, and our own names are timm's. Everything here works on shapes as well as
on tensors: an `Algebra` says how to join and split either, so a file is checked from its header by the same code that
later converts its tensors.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from eomt_core.errors import ModelError
from eomt_core.headers import Shape

Format = Literal["own", "huggingface", "reference"]
T = TypeVar("T")
V = TypeVar("V")

PROBS = "attn_mask_probs"
PIXEL_STATISTICS = ("encoder.pixel_mean", "encoder.pixel_std")
_PREFIX = "network."
_POSITIONS = "encoder.backbone.pos_embed"
_NUMBER = re.compile(r"^(layers|upscale|upscale_block\.block|encoder\.backbone\.blocks)\.(\d+)\.")
_SUFFIX = re.compile(r"(?<=\.)(weight|bias)$")
_BLOCK = "encoder.backbone.blocks.#."

# Own template -> templates of the parts in the Hugging Face port, in the order in which they are joined along the
# rows. `#` stands for a block number, `@` for weight or bias.
_COMMON = {
    "encoder.backbone.cls_token": ("embeddings.cls_token",),
    "encoder.backbone.reg_token": ("embeddings.register_tokens",),
    f"{_BLOCK}norm1.@": ("layers.#.norm1.@",),
    f"{_BLOCK}norm2.@": ("layers.#.norm2.@",),
    "encoder.backbone.norm.@": ("layernorm.@",),
    "q.@": ("query.@",),
    "class_head.@": ("class_predictor.@",),
    "mask_head.0.@": ("mask_head.fc1.@",),
    "mask_head.2.@": ("mask_head.fc2.@",),
    "mask_head.4.@": ("mask_head.fc3.@",),
    "upscale.#.conv1.@": ("upscale_block.block.#.conv1.@",),
    "upscale.#.conv2.@": ("upscale_block.block.#.conv2.@",),
    "upscale.#.norm.@": ("upscale_block.block.#.layernorm2d.@",),
    PROBS: (PROBS,),
}
_TABLE = {
    _POSITIONS: ("embeddings.position_embeddings.@",),
    "encoder.backbone.patch_embed.proj.@": ("embeddings.patch_embeddings.projection.@",),
    f"{_BLOCK}attn.qkv.@": tuple(f"layers.#.attention.{part}_proj.@" for part in "qkv"),
    f"{_BLOCK}attn.proj.@": ("layers.#.attention.out_proj.@",),
    f"{_BLOCK}ls1.gamma": ("layers.#.layer_scale1.lambda1",),
    f"{_BLOCK}ls2.gamma": ("layers.#.layer_scale2.lambda1",),
}
_ROTARY = {
    "encoder.backbone.patch_embed.proj.@": ("embeddings.patch_embeddings.@",),
    f"{_BLOCK}attn.qkv.weight": tuple(f"layers.#.attention.{part}_proj.weight" for part in "qkv"),
    f"{_BLOCK}attn.q_bias": ("layers.#.attention.q_proj.bias",),
    f"{_BLOCK}attn.v_bias": ("layers.#.attention.v_proj.bias",),
    f"{_BLOCK}attn.proj.@": ("layers.#.attention.o_proj.@",),
    f"{_BLOCK}gamma_1": ("layers.#.layer_scale1.lambda1",),
    f"{_BLOCK}gamma_2": ("layers.#.layer_scale2.lambda1",),
    f"{_BLOCK}mlp.fc1.@": ("layers.#.mlp.up_proj.@",),
    f"{_BLOCK}mlp.fc2.@": ("layers.#.mlp.down_proj.@",),
}
_PLAIN_MLP = {f"{_BLOCK}mlp.fc1.@": ("layers.#.mlp.fc1.@",), f"{_BLOCK}mlp.fc2.@": ("layers.#.mlp.fc2.@",)}
_GATED_MLP = {
    f"{_BLOCK}mlp.fc1.@": ("layers.#.mlp.gate_proj.@", "layers.#.mlp.up_proj.@"),
    f"{_BLOCK}mlp.fc2.@": ("layers.#.mlp.down_proj.@",),
}
_OLD_GATED_MLP = {
    f"{_BLOCK}mlp.fc1.@": ("layers.#.mlp.weights_in.@",),
    f"{_BLOCK}mlp.fc2.@": ("layers.#.mlp.weights_out.@",),
}
# What only models with rotary positions have, in the spellings of the reference and the port; and in ours.
_ROTARY_PART = re.compile(r"patch_embed\.cls_token$|attention\.o_proj\.|embeddings\.patch_embeddings\.weight$")
_ROTARY_OWN = re.compile(r"encoder\.backbone\.blocks\.\d+\.attn\.q_bias$")
# What the port, and before it DINOv3 itself, calls the parts that the reference keeps in its encoder.
_PORT_OF_REFERENCE = {
    "encoder.backbone.patch_embed.": "embeddings.",
    "encoder.backbone.blocks.": "layers.",
    "encoder.backbone.norm.": "layernorm.",
}
_PORT_OF_DINOV3 = {"model.layer.": "layers.", "layer.": "layers.", "norm.": "layernorm."}
_UNUSED = (*PIXEL_STATISTICS, "encoder.backbone.patch_embed.mask_token", "embeddings.mask_token")


@dataclass(frozen=True)
class Algebra(Generic[T]):
    """How to join and split what stands for a tensor: the tensor itself, or its shape.

    Attributes:
        join: parts to one, along the rows.
        split: one to so many equal parts, along the rows.
        add_axis: (N, D) to (1, N, D).
        drop_axis: (1, N, D) to (N, D).
    """

    join: Callable[[Sequence[T]], T]
    split: Callable[[T, int], Sequence[T]]
    add_axis: Callable[[T], T]
    drop_axis: Callable[[T], T]


def _join_shapes(shapes: Sequence[Shape]) -> Shape:
    if len({shape[1:] for shape in shapes}) > 1:
        raise ModelError(f"tensors of shapes {', '.join(map(str, shapes))} cannot be joined along the rows")
    return sum(shape[0] for shape in shapes), *shapes[0][1:]


SHAPES = Algebra[Shape](
    join=_join_shapes,
    split=lambda shape, count: [(shape[0] // count, *shape[1:])] * count,
    add_axis=lambda shape: (1, *shape),
    drop_axis=lambda shape: shape[1:],
)


def detect_format(names: Iterable[str]) -> Format:
    """Tell the spelling by the names.

    Raises:
        ModelError: the names are of no EoMT.
    """
    plain = [_without_wrapper(name) for name in names]
    if any(name.startswith(_PREFIX) for name in plain):
        return "reference"
    if any(name.startswith("embeddings.") for name in plain):
        return "huggingface"
    if any(name.startswith("encoder.backbone.") for name in plain):
        return "own"
    raise ModelError(f"no EoMT weights; its tensors are called {', '.join(plain[:3])} ...")


def is_rotary(names: Iterable[str]) -> bool:
    """Whether the names are those of a model with rotary positions, in any spelling."""
    return any(_ROTARY_PART.search(name) or _ROTARY_OWN.search(name) for name in names)


def to_own(entries: Mapping[str, T], algebra: Algebra[T]) -> dict[str, T]:
    """Rename and join the tensors of any spelling into our own; what is not part of the model is dropped.

    Dropped are the training criterion, the pixel statistics and what pretraining masked patches with. A name that no
    spelling knows is kept as it is, for the comparison with what the model should have.

    Raises:
        ModelError: no EoMT, two tensors for one place, or only some parts of a joined tensor.
    """
    model = _model_alone(entries)
    if any(map(_ROTARY_PART.search, model)):
        parts = {_renamed(name, _PORT_OF_REFERENCE): entry for name, entry in model.items()}
        return _from_huggingface(parts, algebra, (_COMMON, _ROTARY))
    if detect_format(entries) == "huggingface":
        return _from_huggingface(model, algebra, (_COMMON, _TABLE, _PLAIN_MLP, _GATED_MLP, _OLD_GATED_MLP))
    return model


def dinov3_to_own(entries: Mapping[str, T], algebra: Algebra[T]) -> dict[str, T]:
    """Rename and join the tensors of DINOv3 itself, as transformers or timm spell them, into an encoder of our own.

    Raises:
        ModelError: two tensors for one place, or only some parts of a joined tensor.
    """
    if any(map(_ROTARY_PART.search, entries)):
        parts = {_renamed(name, _PORT_OF_DINOV3): entry for name, entry in _model_alone(entries).items()}
        return _from_huggingface(parts, algebra, (_COMMON, _ROTARY))
    return {f"encoder.backbone.{name}": entry for name, entry in entries.items()}


def to_reference(entries: Mapping[str, T]) -> dict[str, T]:
    """Rename tensors of our own spelling into the reference's.

    Raises:
        ModelError: they have rotary positions, whose parts the reference spells as the port does.
    """
    if is_rotary(entries):
        raise ModelError("weights with rotary positions are not written as the reference's; take Hugging Face's")
    return {_PREFIX + name: entry for name, entry in entries.items()}


def to_huggingface(entries: Mapping[str, T], algebra: Algebra[T], *, gated: bool) -> dict[str, T]:
    """Rename and split tensors of our own spelling into the Hugging Face port's.

    Args:
        entries: by own name.
        algebra: of the entries.
        gated: whether the MLPs are SwiGLU, whose first layer is stored in two halves.

    Raises:
        ModelError: the port has no place for a tensor.
    """
    table = _port_table(gated=gated, rotary=is_rotary(entries))
    renamed: dict[str, T] = {}
    for name, entry in entries.items():
        parts = _look_up(table, name)
        if parts is None:
            raise ModelError(f"the Hugging Face port of EoMT has no place for {name}")
        if name == _POSITIONS:
            entry = algebra.drop_axis(entry)
        pieces = [entry] if len(parts) == 1 else algebra.split(entry, len(parts))
        renamed.update(zip((_spell(part, name) for part in parts), pieces, strict=True))
    return renamed


def name_in_file(name: str, spelling: Format, *, gated: bool, rotary: bool) -> str:
    """Tell what a tensor of our own spelling is called in a file of another one; the first part of a joined one."""
    if spelling == "own":
        return name
    if spelling == "reference" and not (rotary and name.startswith("encoder.")):
        return _PREFIX + name
    table = _port_table(gated=gated, rotary=rotary)
    part = _spell((_look_up(table, name) or (name,))[0], name)
    if spelling == "huggingface":
        return part
    return _PREFIX + _renamed(part, {port: reference for reference, port in _PORT_OF_REFERENCE.items()})


def _port_table(*, gated: bool, rotary: bool) -> dict[str, tuple[str, ...]]:
    """What the parts of each own tensor are called in the port."""
    return _COMMON | (_ROTARY if rotary else _TABLE | (_GATED_MLP if gated else _PLAIN_MLP))


def _renamed(name: str, prefixes: Mapping[str, str]) -> str:
    """Exchange the beginning of a name."""
    old = next((old for old in prefixes if name.startswith(old)), "")
    return prefixes.get(old, "") + name.removeprefix(old)


def _model_alone(entries: Mapping[str, T]) -> dict[str, T]:
    """Take away what the reference's training module and torch.compile put around names, and what is no model."""
    kept: dict[str, T] = {}
    for name, entry in entries.items():
        plain = _without_wrapper(name).removeprefix(_PREFIX)
        if plain.startswith("criterion.") or plain in _UNUSED:
            continue
        if plain in kept:
            raise ModelError(f"two tensors for {plain}")
        kept[plain] = entry
    return kept


def _without_wrapper(name: str) -> str:
    """Take away the marks that torch.compile leaves in names."""
    return name.replace("._orig_mod", "").removeprefix("_orig_mod.")


def _from_huggingface(
    entries: Mapping[str, T], algebra: Algebra[T], tables: Sequence[Mapping[str, tuple[str, ...]]]
) -> dict[str, T]:
    places = {part: (own, parts) for table in tables for own, parts in table.items() for part in parts}
    own: dict[str, T] = {}
    made_of: dict[str, tuple[str, ...]] = {}
    for name in entries:
        template, parts = _look_up(places, name) or (name, (name,))
        target, sources = _spell(template, name), tuple(_spell(part, name) for part in parts)
        if made_of.setdefault(target, sources) != sources:
            raise ModelError(f"two tensors for {target}: {made_of[target][0]} and {name}")
        if target not in own:
            own[target] = _joined(entries, sources, algebra)
    if _POSITIONS in own:
        own[_POSITIONS] = algebra.add_axis(own[_POSITIONS])
    return own


def _joined(entries: Mapping[str, T], parts: Sequence[str], algebra: Algebra[T]) -> T:
    missing = [part for part in parts if part not in entries]
    if missing:
        raise ModelError(f"{len(missing)} tensors are missing: {', '.join(missing)}")
    return algebra.join([entries[part] for part in parts]) if len(parts) > 1 else entries[parts[0]]


def _look_up(table: Mapping[str, V], name: str) -> V | None:
    """Look for a name with # for the block number, then with @ for weight or bias too."""
    numbered = _NUMBER.sub(r"\1.#.", name)
    return table.get(numbered) or table.get(_SUFFIX.sub("@", numbered))


def _spell(template: str, name: str) -> str:
    """Fill a template with the block number and suffix of a name; what has no suffix in one spelling is a weight."""
    number, suffix = _NUMBER.match(name), _SUFFIX.search(name)
    return template.replace("#", number[2] if number else "#").replace("@", suffix[0] if suffix else "weight")
