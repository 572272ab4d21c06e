"""Which timm architectures cannot carry queries, why, and what comes nearest."""

import inspect
from typing import Any

import timm
from timm.layers.patch_embed import PatchEmbed
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import nn

_DINOV2 = "vit_small_patch14_reg4_dinov2"
_DINOV3 = "vit_small_patch16_dinov3_qkvb"
_PLAIN = "vit_small_patch16_224"
_CARRYING = ("vision_transformer", "deit", "eva")
"""Modules of timm whose models can carry queries, as far as their parts can."""

# timm module -> (why, nearest supported architecture)
_REASONS = {
    "vision_transformer_relpos": ("its relative positions are tied to one grid and its blocks take no mask", _PLAIN),
    "beit": ("its relative position bias is tied to one grid and its blocks take no mask", _DINOV2),
    "vision_transformer_hybrid": ("its patches are made by a convolutional network", _PLAIN),
    "vision_transformer_sam": ("its windowed attention has no room for query tokens", _DINOV2),
    "hiera": ("it pools tokens between stages, so queries cannot stay in the sequence", _DINOV2),
    "hieradet_sam2": ("it pools tokens between stages, so queries cannot stay in the sequence", _DINOV2),
    "swin_transformer": ("its shifted windows have no room for query tokens", _DINOV2),
    "swin_transformer_v2": ("its shifted windows have no room for query tokens", _DINOV2),
    "cait": ("its talking-heads attention takes no mask", "deit3_small_patch16_224"),
    "xcit": ("it attends across channels, so queries cannot attend to patches", "deit3_small_patch16_224"),
    "convnext": ("it is convolutional and has no tokens", _DINOV2),
    "naflexvit": ("its tokens come packed with their own coordinates", "vit_base_patch16_siglip_256"),
}


def why_refused(backbone: nn.Module) -> str | None:
    """Return the reason, in one line, why a backbone cannot be an encoder, or None where nothing speaks against it."""
    reason, nearest = _REASONS.get(type(backbone).__module__.rpartition(".")[2], (None, nearest_of(backbone)))
    return _message(type(backbone).__name__, reason or _missing_part(backbone), nearest)


def nearest_of(backbone: nn.Module) -> str:
    """Return the architecture to take instead of a backbone that has tokens but lacks a part."""
    return _DINOV3 if isinstance(backbone, Eva) else _PLAIN


def why_name_refused(name: str) -> str | None:
    """Return the same for a timm name without building the model, as far as the name tells."""
    package, _, module = timm.model_entrypoint(name).__module__.rpartition(".")
    if name.endswith("_dinov3"):
        # Its weights would load without the biases of queries and values, and answer a little wrong.
        nearest = f"{name}_qkvb" if timm.is_model(f"{name}_qkvb") else "vit_large_patch16_dinov3_qkvb"
        return _message(name, "it has no biases of queries and values, which weights of DINOv3 have", nearest)
    other = package == "timm.models" and module not in _CARRYING
    reason, nearest = _REASONS.get(module, ("it is no plain vision transformer" if other else None, _PLAIN))
    return _message(name, reason, nearest)


def _message(name: str, reason: str | None, nearest: str) -> str | None:
    return reason and f"{name} cannot be used as an encoder: {reason}; the nearest that can: {nearest}"


def _missing_part(backbone: nn.Module) -> str | None:
    """Name what a plain ViT has and this backbone has not."""
    if not isinstance(backbone, VisionTransformer | Eva):
        return "it is no timm VisionTransformer"
    if not isinstance(backbone.patch_embed, PatchEmbed):
        return f"its patches are made by {type(backbone.patch_embed).__name__}"
    rows, columns = backbone.patch_embed.patch_size
    if rows != columns:
        return f"its patches are not square ({rows}x{columns})"
    if any("attn_mask" not in inspect.signature(block.forward).parameters for block in backbone.blocks):
        return "its blocks take no attention mask"
    if not _follows_grid(getattr(backbone, "rope", None)):
        return "its rotary positions are those of one grid, whatever the tile; make it with dynamic_img_size=True"
    return None


def _follows_grid(rope: Any) -> bool:
    """Whether rotary positions are those of the grid asked for.

    Those that were made for one size are not, silently: nothing else tells where another grid has as many patches.
    """
    return rope is None or all(rope.get_embed(shape=[1, columns]).shape[-2] == columns for columns in (1, 2))
