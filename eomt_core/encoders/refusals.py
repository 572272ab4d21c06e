"""Which timm architectures cannot carry queries, why, and what comes nearest."""

import inspect

import timm
from timm.layers.patch_embed import PatchEmbed
from timm.models.vision_transformer import VisionTransformer
from torch import nn

_DINOV2 = "vit_small_patch14_reg4_dinov2"
_PLAIN = "vit_small_patch16_224"

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
    "eva": ("rotary positions are not supported by this version", _DINOV2),
}


def why_refused(backbone: nn.Module) -> str | None:
    """Return the reason, in one line, why a backbone cannot be an encoder, or None where nothing speaks against it."""
    reason, nearest = _REASONS.get(type(backbone).__module__.rpartition(".")[2], (None, _PLAIN))
    return _message(type(backbone).__name__, reason or _missing_part(backbone), nearest)


def why_name_refused(name: str) -> str | None:
    """Return the same for a timm name without building the model, as far as the name tells."""
    module = timm.model_entrypoint(name).__module__.rpartition(".")[2]
    reason, nearest = _REASONS.get(module, (None, _PLAIN))
    return _message(name, reason, nearest)


def _message(name: str, reason: str | None, nearest: str) -> str | None:
    return reason and f"{name} cannot be used as an encoder: {reason}; the nearest that can: {nearest}"


def _missing_part(backbone: nn.Module) -> str | None:
    """Name what a plain ViT has and this backbone has not."""
    if not isinstance(backbone, VisionTransformer):
        return "it is no timm VisionTransformer"
    if not isinstance(backbone.patch_embed, PatchEmbed):
        return f"its patches are made by {type(backbone.patch_embed).__name__}"
    rows, columns = backbone.patch_embed.patch_size
    if rows != columns:
        return f"its patches are not square ({rows}x{columns})"
    if any("attn_mask" not in inspect.signature(block.forward).parameters for block in backbone.blocks):
        return "its blocks take no attention mask"
    return None
