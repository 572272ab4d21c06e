"""The timm model that an `Architecture` describes, around tensors that are there already."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from timm.layers import Mlp, PatchEmbed, RotaryEmbeddingDinoV3, SwiGLUPacked
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from eomt_core.card import Architecture
from eomt_core.encoders.stem import StemEmbed

BACKBONE = "encoder.backbone."
"""What its tensors begin with, by own name."""


def build_backbone(a: Architecture, state: Mapping[str, Tensor]) -> nn.Module:
    """Make a timm ViT of an architecture that holds the given tensors, by own name."""
    shared: dict[str, Any] = {
        "img_size": a.image_size,
        "patch_size": a.patch_size,
        "in_chans": a.in_channels,
        "num_classes": 0,
        "global_pool": "",
        "embed_dim": a.embed_dim,
        "depth": a.depth,
        "num_heads": a.num_heads,
        # timm rounds the product with the width down: half a row more keeps it from losing one.
        "mlp_ratio": (a.mlp_hidden + 0.5) / a.embed_dim,
        "init_values": 1.0 if a.layer_scale else None,
        "class_token": a.cls_token,
        "no_embed_class": a.no_embed_class,
        "norm_layer": partial(nn.LayerNorm, eps=a.norm_eps),
    }
    backbone: nn.Module = _rotary(a, shared) if a.rope_theta else _with_table(a, shared)
    backbone.load_state_dict({name.removeprefix(BACKBONE): tensor for name, tensor in state.items()}, assign=True)
    return backbone


def _with_table(a: Architecture, shared: Mapping[str, Any]) -> VisionTransformer:
    """Make a ViT with a table of positions, on the meta device."""
    mlp: Any = SwiGLUPacked if a.swiglu else Mlp
    with torch.device("meta"):
        return VisionTransformer(
            **shared,
            reg_tokens=a.num_registers,
            mlp_layer=mlp,
            embed_layer=partial(StemEmbed, widths=a.stem) if a.stem else PatchEmbed,
            act_layer=nn.SiLU if a.swiglu else nn.GELU,
        )


def _rotary(a: Architecture, shared: Mapping[str, Any]) -> Eva:
    """Make a ViT as DINOv3 is one, on the meta device but for what is in no file: its angles, and zeros for keys."""
    with torch.device("meta"):
        backbone = Eva(
            **shared,
            num_reg_tokens=a.num_registers,
            use_abs_pos_emb=False,
            use_rot_pos_emb=True,
            rope_type="dinov3",
            rope_rotate_half=True,
            dynamic_img_size=True,
        )
    backbone.rope = RotaryEmbeddingDinoV3(a.embed_dim // a.num_heads, temperature=a.rope_theta)
    for block in backbone.blocks:
        block.attn.k_bias = torch.zeros(a.embed_dim)
    return backbone
