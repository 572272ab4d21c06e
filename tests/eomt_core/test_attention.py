"""Where queries look: what a model attends to is what is told, to the last bit that matters."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eomt_core.attention import query_attention
from eomt_core.errors import ModelError
from eomt_core.recipes import new_model

NAMES = ("vit-pytorch", "simple-vit", "vit-pytorch-cross", "scalable-tiny", "scalable-tiny-joint")


class Pointing(nn.Module):
    """Two queries, a prefix and 2 x 3 cells: query 0 looks at cell (1, 2), query 1 at everything alike."""

    num_q = 2
    encoder = SimpleNamespace(patch_size=8)

    def forward(self, pixels: Tensor) -> Tensor:
        """Attend once without the queries and once with them, in two heads."""
        keys = torch.eye(9).expand(1, 2, 9, 9)
        F.scaled_dot_product_attention(keys[:, :, 2:, 2:], keys[:, :, 2:, 2:], keys[:, :, 2:, 2:])
        queries = torch.zeros(1, 2, 9, 9)
        queries[:, :, 0, 8] = 1000.0
        return F.scaled_dot_product_attention(queries, keys, keys)


def test_a_query_that_looks_at_one_cell_is_seen_to() -> None:
    """All of its attention is there; the other's is a ninth for each of queries, prefix and cells."""
    seen = query_attention(Pointing(), torch.zeros(1, 3, 16, 24))  # type: ignore[arg-type]
    assert seen.shape == (2, 2, 3)
    assert seen[0, 1, 2] == 1
    assert seen[0].sum() == 1
    torch.testing.assert_close(seen[1], torch.full((2, 3), 1 / 9))


@pytest.mark.parametrize("name", NAMES)
def test_every_family_that_attends_is_heard(name: str) -> None:
    """One map a query, of shares; listening changes nothing of what the model says."""
    pytest.importorskip("vit_pytorch", reason="the extra vit-pytorch is not installed")
    torch.manual_seed(0)
    model = new_model(name, 3, semantic=True, image_size=64).eval()
    model.set_mask_probs((0.0,) * model.num_blocks)
    pixels = torch.rand(1, 3, 64, 128)
    with torch.no_grad():
        before = model(pixels).mask_logits
    seen = query_attention(model, pixels)
    assert seen.shape[0] == 3
    assert seen.shape[2] == 2 * seen.shape[1]
    assert (seen >= 0).all()
    assert (seen.sum((1, 2)) <= 1 + 1e-5).all()
    with torch.no_grad():
        torch.testing.assert_close(model(pixels).mask_logits, before)


def test_filters_attend_to_nothing() -> None:
    """In the mode conv no query sees the image, which is said."""
    pytest.importorskip("vit_pytorch", reason="the extra vit-pytorch is not installed")
    model = new_model("scalable-tiny-conv", 3, semantic=True, image_size=64).eval()
    with pytest.raises(ModelError, match="attend to nothing"):
        query_attention(model, torch.rand(1, 3, 64, 64))
