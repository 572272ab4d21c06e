"""Small models of the transformers library, and one with a DINOv3 encoder as such models are published."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

PORT: dict[str, object] = {
    "hidden_size": 64,
    "num_hidden_layers": 5,
    "num_attention_heads": 2,
    "image_size": 160,
    "num_queries": 20,
    "num_blocks": 3,
    "num_labels": 7,
    "patch_size": 16,
}
"""Sizes of small models of the transformers library."""

ENCODER = {
    "embeddings.": "encoder.backbone.patch_embed.",
    "layers.": "encoder.backbone.blocks.",
    "layernorm.": "encoder.backbone.norm.",
}
HEADS = {
    "query.": "q.",
    "class_predictor.": "class_head.",
    "upscale_block.block.": "upscale.",
    "mask_head.fc1.": "mask_head.0.",
    "mask_head.fc2.": "mask_head.2.",
    "mask_head.fc3.": "mask_head.4.",
}


def reference_name(name: str) -> str:
    """What the reference calls a tensor of the port whose encoder is a DINOv3."""
    for port, reference in (ENCODER | HEADS).items():
        if name.startswith(port):
            name = reference + name.removeprefix(port)
    return "network." + name.replace("layernorm2d", "norm")


def port_name(name: str) -> str:
    """What the port calls a tensor of DINOv3 itself."""
    return re.sub(r"^(model\.)?layer\.", "layers.", re.sub(r"^norm\.", "layernorm.", name))


@dataclass
class Published:
    """A model as it is published, and what it is made of.

    Attributes:
        whole: the directory of the port, with all weights.
        base: the directory of the DINOv3 that it was trained from.
        differences: the reference's file.
    """

    whole: Path
    base: Path
    differences: Path


def perturb(name: str, weight: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a weight of some effect: gains near 0.35 and 1, everything else noise; mask logits reach 7 to 9."""
    noise = torch.rand(weight.shape, generator=generator) - 0.5
    if name.endswith(("gamma", "gamma_1", "gamma_2", "lambda1")):
        return 0.35 + 0.3 * noise
    if "norm" in name and name.endswith(("weight", "running_var")):
        return 1 + noise
    return noise * (2 / weight[0].numel() ** 0.5 if weight.ndim > 1 else 1)


@torch.no_grad()
def perturbed(model: Any, probs: tuple[float, ...]) -> Any:
    """A model of the transformers library with weights that make mistakes visible."""
    generator = torch.Generator().manual_seed(0)
    for name, weight in model.named_parameters():
        weight.copy_(perturb(name, weight, generator))
    model.attn_mask_probs.copy_(torch.tensor(probs))
    return model.eval()


def eomt_dinov3(probs: tuple[float, ...] = (0.0, 0.0, 0.0), **changes: object) -> Any:
    """A small EoMT whose encoder is a DINOv3."""
    import transformers

    config = transformers.EomtDinov3Config(**(PORT | {"intermediate_size": 256, "layer_norm_eps": 1e-5} | changes))
    return perturbed(transformers.EomtDinov3ForUniversalSegmentation(config), probs)


@torch.no_grad()
def publish_dinov3(model: Any, folder: Path) -> Published:
    """Make the DINOv3 that a model was trained from, and write all; weights in steps of 1/4096 add up exactly."""
    import transformers

    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_register_tokens")
    config = transformers.DINOv3ViTConfig(**{name: getattr(model.config, name) for name in names})
    base, generator = transformers.DINOv3ViTModel(config), torch.Generator().manual_seed(5)
    for name, start in base.named_parameters():
        if name != "embeddings.mask_token":
            trained = model.get_parameter(port_name(name))
            start.copy_(steps(trained))
            trained.copy_(start + steps(0.01 * torch.randn(start.shape, generator=generator)))
    return write(model, base, folder)


def steps(tensor: Tensor) -> Tensor:
    """The tensor in steps of 1/4096."""
    return (tensor * 4096).round() / 4096


def write(model: Any, base: Any, folder: Path) -> Published:
    """Write the three."""
    made = Published(folder / "whole", folder / "base", folder / "pytorch_model.bin")
    model.save_pretrained(made.whole)
    base.save_pretrained(made.base)
    start = {port_name(name): tensor for name, tensor in load_file(made.base / "model.safetensors").items()}
    state = {
        reference_name(name): tensor - start[name] if name in start else tensor
        for name, tensor in load_file(made.whole / "model.safetensors").items()
    }
    state["network.encoder.backbone.patch_embed.mask_token"] = torch.zeros(1, 1, start["embeddings.cls_token"].shape[2])
    # Buffers are differences too: masks that were annealed from 1 to 0, and statistics that did not move.
    state |= {"network.attn_mask_probs": -torch.ones(3), "network.encoder.pixel_std": torch.zeros(1, 3, 1, 1)}
    state |= {"network.encoder.pixel_mean": torch.zeros(1, 3, 1, 1)}
    torch.save(state, made.differences)
    (folder / "config.json").write_text('{"num_attention_heads": 2, "image_size": 160}')
    return made
