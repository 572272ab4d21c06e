"""What is known of a model besides its weights: its architecture, and the card that says what it was trained for."""

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Self

from eomt_core.errors import ModelError
from eomt_core.json_fields import read_fields, read_object
from eomt_core.limits import MAX_CLASSES

if TYPE_CHECKING:
    from eomt_core.family import FamilyArchitecture

TASKS = ("semantic", "instance", "panoptic")
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# The datasets that the published models were trained on: COCO panoptic, COCO instances, Cityscapes. ADE20K's 150
# classes serve two tasks, so they decide nothing.
_TASK_OF_CLASS_COUNT = {133: "panoptic", 80: "instance", 19: "semantic"}


def default_task(num_classes: int) -> str | None:
    """Return the task that a model of K classes without a card is for, or None where K does not tell."""
    return _TASK_OF_CLASS_COUNT.get(num_classes)


@dataclass(frozen=True)
class Architecture:
    """Everything that decides which tensors an EoMT on a ViT has, and how they are used.

    Attributes:
        embed_dim: D, the width of a token.
        depth: blocks of the encoder.
        num_heads: attention heads of a block.
        patch_size: pixels per patch along each axis.
        image_size: rows and columns of pixels that the position table was made for.
        in_channels: C, the bands of the input.
        num_queries: Q.
        num_classes: K, without "no object".
        num_blocks: last blocks that see the queries.
        num_upscale: n, doublings of the patch grid.
        num_registers: register tokens.
        cls_token: whether there is a class token.
        no_embed_class: whether the position table has rows for patches only, none for class and register tokens.
        swiglu: whether the MLPs are gated (SwiGLU).
        mlp_hidden: rows of an MLP's first layer; for SwiGLU gate and value together.
        layer_scale: whether blocks scale their outputs per channel.
        norm_eps: epsilon of the encoder's LayerNorms.
        stem: channels of the convolutions that make the patches, finest first; empty: one linear cut.
        mask_width: channels that masks are dot products over; 0: D.
        rope_theta: base of the rotary positions, as DINOv3 has them; 0: there is a table of positions.
    """

    embed_dim: int
    depth: int
    num_heads: int
    patch_size: int
    image_size: tuple[int, int]
    in_channels: int
    num_queries: int
    num_classes: int
    num_blocks: int
    num_upscale: int
    num_registers: int
    cls_token: bool
    no_embed_class: bool
    swiglu: bool
    mlp_hidden: int
    layer_scale: bool
    norm_eps: float = 1e-6
    stem: tuple[int, ...] = ()
    mask_width: int = 0
    rope_theta: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.num_classes <= MAX_CLASSES:
            raise ModelError(f"the class head has {self.num_classes} classes; 1 to {MAX_CLASSES} are possible")
        if self.num_heads < 1 or self.embed_dim % self.num_heads:
            raise ModelError(f"{self.num_heads} attention heads do not divide the token width {self.embed_dim}")
        if self.num_blocks > self.depth:
            raise ModelError(f"queries join the last {self.num_blocks} blocks, but the encoder has {self.depth}")
        if self.patch_size % 2**self.num_upscale:
            raise ModelError(f"{self.num_upscale} upscale blocks do not fit patches of {self.patch_size} pixels")
        if any(length < 1 or length % self.patch_size for length in self.image_size):
            raise ModelError(f"training size {self.image_size} is no multiple of the patch size {self.patch_size}")
        if self.stem and self.patch_size != 2 ** (len(self.stem) + 1):
            raise ModelError(f"a stem of {len(self.stem)} layers does not make patches of {self.patch_size} pixels")
        if self.rope_theta and (self.stem or self.swiglu or self.embed_dim // self.num_heads % 4):
            raise ModelError("rotary positions need heads of a multiple of 4 channels, and neither stem nor SwiGLU")

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches at the training size."""
        return self.image_size[0] // self.patch_size, self.image_size[1] // self.patch_size

    @property
    def num_prefix(self) -> int:
        """Tokens before the patches."""
        return int(self.cls_token) + self.num_registers

    @property
    def pos_rows(self) -> int:
        """Rows of the position table; rotary positions have none."""
        if self.rope_theta:
            return 0
        return math.prod(self.grid) + (0 if self.no_embed_class else self.num_prefix)

    @property
    def stride(self) -> int:
        """Pixels per mask cell along each axis."""
        return self.patch_size >> self.num_upscale

    @property
    def min_multiple(self) -> int:
        """The lattice: rows and columns of a tile must be multiples of it."""
        return self.patch_size

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ModelError: no JSON object, a field is missing, unknown or of another kind.
        """
        return read_fields(cls, read_object(text, "architecture"), "architecture")

    def to_json(self) -> str:
        """Write as a JSON object."""
        return json.dumps(asdict(self), indent=2)


@dataclass(frozen=True)
class PaletteArchitecture:
    """The few sizes of a palette model, which has a colour per class and nothing else.

    Attributes:
        num_classes: K.
        in_channels: C, the bands of the input.
        stride: pixels per mask cell along each axis.
        min_multiple: the lattice: rows and columns of a tile must be multiples of it.
        image_size: rows and columns of a tile, by default.
    """

    num_classes: int
    in_channels: int
    stride: int
    min_multiple: int
    image_size: tuple[int, int]

    @property
    def num_queries(self) -> int:
        """A query per class."""
        return self.num_classes

    @property
    def embed_dim(self) -> int:
        """Channels of what it computes with."""
        return self.in_channels


@dataclass(frozen=True)
class ModelCard:
    """What a model was trained for and with.

    Attributes:
        name: the model's name.
        classes: K class names, in the order of the ids.
        things: ids of the countable classes; the others are stuff.
        tasks: what the model was trained for, the default first; empty: not stated.
        bands: names of the input bands in order, such as red, green, blue; empty: not stated.
        value_range: raw values that become 0 and 1, one pair for all bands or one per band; empty: not stated.
        pixel_size: ground sampling distance in metres, or None.
        mean: per band, of values scaled to [0, 1].
        std: per band, likewise.
        score_threshold: lowest class probability of a query that counts.
        overlap_threshold: lowest share of its mask that a query must keep against the others.
        mask_threshold: lowest mask probability of a pixel.
        licence: of the weights, as an SPDX expression where there is one.
        notes: anything else, in words.
    """

    name: str
    classes: tuple[str, ...]
    things: tuple[int, ...] = ()
    tasks: tuple[str, ...] = ()
    bands: tuple[str, ...] = ()
    value_range: tuple[tuple[float, float], ...] = ()
    pixel_size: float | None = None
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    score_threshold: float = 0.8
    overlap_threshold: float = 0.8
    mask_threshold: float = 0.5
    licence: str = ""
    notes: str = ""

    def __post_init__(self) -> None:
        for wrong, message in _card_faults(self):
            if wrong:
                raise ModelError(f"model card {self.name!r}: {message}")

    @property
    def stuff(self) -> tuple[int, ...]:
        """Ids of the classes that are not counted."""
        return tuple(index for index in range(len(self.classes)) if index not in self.things)

    @property
    def default_task(self) -> str | None:
        """The first task that the card lists, else the one that the class count tells, else None."""
        return self.tasks[0] if self.tasks else default_task(len(self.classes))

    def choose_task(self, asked: str | None) -> str:
        """Return the task to run; a panoptic model may also run semantic.

        Raises:
            ModelError: the model is not for the task asked for, or none was asked for and there is no default.
        """
        task = asked or self.default_task
        if task is None:
            raise ModelError(f"model {self.name} does not say its task: give one of {', '.join(TASKS)}")
        allowed = (*self.tasks, "semantic") if "panoptic" in self.tasks else self.tasks or TASKS
        if task not in allowed:
            raise ModelError(f"model {self.name} is for {', '.join(allowed)}, not for {task}")
        return task

    def check_fits(self, architecture: "Architecture | PaletteArchitecture | FamilyArchitecture") -> None:
        """Check that the card is about weights of this architecture.

        Raises:
            ModelError: the number of classes or bands differs.
        """
        if len(self.classes) != architecture.num_classes:
            have, want = len(self.classes), architecture.num_classes
            raise ModelError(f"model card {self.name!r} names {have} classes, the weights have {want}")
        bands = architecture.in_channels
        counts = {"mean": len(self.mean), "bands": len(self.bands) or bands}
        counts["value_range"] = bands if len(self.value_range) < 2 else len(self.value_range)
        for field, count in counts.items():
            if count != bands:
                raise ModelError(f"model card {self.name!r}: {field} is for {count} bands, the weights take {bands}")

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote; fields with a default may be left out.

        Raises:
            ModelError: no JSON object, a field is missing, unknown, of another kind or out of range.
        """
        return read_fields(cls, read_object(text, "model card"), "model card")

    def to_json(self) -> str:
        """Write as a JSON object."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)


def _card_faults(card: ModelCard) -> list[tuple[bool, str]]:
    """Pair every rule a card can break with the message that says so."""
    unknown = [task for task in card.tasks if task not in TASKS]
    thresholds = (card.score_threshold, card.overlap_threshold, card.mask_threshold)
    return [
        (not card.name, "it needs a name"),
        (not card.classes or not all(card.classes), "it needs a name for every class"),
        (bool(unknown), f"unknown tasks {unknown}; there are {', '.join(TASKS)}"),
        (
            not all(0 <= thing < len(card.classes) for thing in card.things),
            f"things go from 0 to {len(card.classes) - 1}",
        ),
        (
            len(card.mean) != len(card.std) or not all(s > 0 for s in card.std),
            "mean needs a std above 0 for every band",
        ),
        (
            not all(low < high for low, high in card.value_range),
            "value_range needs pairs of a lower and a higher value",
        ),
        (card.pixel_size is not None and not card.pixel_size > 0, "pixel_size is metres above 0"),
        (not all(0 <= threshold <= 1 for threshold in thresholds), "thresholds go from 0 to 1"),
    ]
