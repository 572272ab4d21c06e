"""Masks looked at in a few places only: what Mask2Former does to train with large masks.

Cheng et al., "Masked-attention Mask Transformer for Universal Image Segmentation", CVPR 2022; the choice of places by
uncertainty is that of PointRend (Kirillov et al., CVPR 2020). Half of the places are ours: they lie in and around the
objects. Of 1024 places that are spread over a tile of 256 pixels, a cell nucleus would get five.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from eomt_core.training.targets import Objects

OVERSAMPLE = 3
"""Places that are drawn for each that is kept by its uncertainty."""

UNCERTAIN = 0.75
"""The share of the places that are kept by their uncertainty; the others are any."""


def sample(maps: Tensor, places: Tensor) -> Tensor:
    """Read maps (N, C, h, w) at places (N, P, 2), x and y in 0..1, bilinearly: (N, C, P)."""
    return F.grid_sample(maps, 2 * places[:, :, None] - 1, align_corners=False)[..., 0]


def known_at(known: Tensor, places: Tensor) -> Tensor:
    """Say of places (N, P, 2) in maps (N, h, w) of 0 and 1 whether all that is read there is known: (N, P), 0 or 1.

    Beyond the edge there is nothing unknown. A place that is known in part does not count: what is read there mixes
    the truth with nothing.
    """
    return sample(1 - known[:, None], places)[:, 0].eq(0).to(known.dtype)


def boxes(masks: Tensor) -> Tensor:
    """Boxes (n, 2, 2) around masks (n, H, W): upper left and lower right, x and y in 0..1, half as large again."""
    edges = []
    for axis, length in ((1, masks.shape[2]), (2, masks.shape[1])):
        covered = masks.amax(axis) > 0.5
        steps = torch.arange(length, device=masks.device)
        low = torch.where(covered, steps, length).amin(1)
        high = torch.where(covered, steps + 1, 0).amax(1)
        margin = (high - low).clamp(min=1) / 4
        edges.append(torch.stack([low - margin, high + margin], 1) / length)
    return torch.stack(edges, 2).clamp(0, 1)


def places_in(boxes: Tensor, count: int) -> Tensor:
    """Random places (n, count, 2) in boxes (n, 2, 2)."""
    low, high = boxes[:, None, 0], boxes[:, None, 1]
    return low + (high - low) * torch.rand(len(boxes), count, 2, device=boxes.device)


def match_places(masks: Tensor, count: int) -> Tensor:
    """Places (1, count, 2) to compare all masks (n, H, W) of a crop at: half anywhere, half at some object."""
    near = torch.randint(len(masks), (count // 2,), device=masks.device)
    anywhere = torch.rand(count - count // 2, 2, device=masks.device)
    return torch.cat((anywhere, places_in(boxes(masks)[near], 1)[:, 0]))[None]


def seen_together(mask_logits: Tensor, objects: Objects, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Look at all masks of a crop in the same places.

    Returns:
        Logits (Q, P), truth (n, P) and what of it is known (1, P), 0 or 1: at `count` places, or in all cells of masks
        that have no more.
    """
    if mask_logits.shape[-2:] == objects.masks.shape[-2:] and mask_logits[0].numel() <= count:
        return mask_logits.flatten(1), objects.masks.flatten(1), (objects.known[None] == 1).float().flatten(1)
    places = match_places(objects.masks, count)
    logits, truth = sample(mask_logits[None], places)[0], sample(objects.masks[None], places)[0]
    return logits, truth, known_at(objects.known[None], places)


def at_masks(objects: Objects, size: torch.Size, count: int) -> Objects:
    """Objects at the resolution of masks, a cell holding its covered share; as they are beyond `count` cells."""
    if size.numel() > count or size == objects.known.shape:
        return objects
    known = F.adaptive_avg_pool2d(objects.known[None], (size[0], size[1]))[0]
    step = objects.known.shape[0] // size[0], objects.known.shape[1] // size[1]
    return Objects(F.avg_pool2d(objects.masks[:, None], step)[:, 0], objects.classes, known)


def uncertain_places(logits: Tensor, wanted: Tensor, count: int, known: Tensor | None = None) -> Tensor:
    """Choose places (N, count, 2) for masks (N, h, w): most where the logit is near 0, the others at random.

    Args:
        logits: of the masks.
        wanted: (N, H, W), what they should be.
        count: how many for each.
        known: (N, H, W), 0 where nothing is learned: such places are not kept for their uncertainty, which no training
            would ever end.
    """
    certain = int(UNCERTAIN * count)
    drawn = _mixed_places(wanted, OVERSAMPLE * count)
    distance = sample(logits[:, None], drawn)[:, 0].abs()
    if known is not None:
        distance = distance.masked_fill(known_at(known, drawn) == 0, torch.inf)
    nearest = distance.topk(certain, dim=1, largest=False).indices
    kept = drawn.gather(1, nearest[..., None].expand(-1, -1, 2))
    return torch.cat((kept, _mixed_places(wanted, count - certain)), dim=1)


def _mixed_places(wanted: Tensor, count: int) -> Tensor:
    """Places (N, count, 2): half anywhere, half in and around the object of each mask (N, H, W)."""
    anywhere = torch.rand(len(wanted), count - count // 2, 2, device=wanted.device)
    return torch.cat((anywhere, places_in(boxes(wanted), count // 2)), dim=1)
