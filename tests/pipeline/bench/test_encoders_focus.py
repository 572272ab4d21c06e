"""What queries look at, in two figures and a picture: classes and places that are known."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.bench.encoders.focus import Look, _on_class, _on_place
from pipeline.export.charts import draw_attention

HALVES = np.repeat([0, 1], 32).astype(np.int32)[None].repeat(64, 0)


def look(truth: np.ndarray, attention: np.ndarray) -> Look:
    """A dark tile of 64 pixels with attention on 4 x 4 cells."""
    return Look(np.zeros((3, 64, 64), np.float32), truth, attention / attention.sum((1, 2), keepdims=True))


def on(truth: np.ndarray) -> np.ndarray:
    """Attention of two queries that lies on their own class alone."""
    return np.stack([(truth == kind)[8::16, 8::16] for kind in (0, 1)]).astype(np.float32)


def test_attention_on_the_own_class_alone_is_its_share_turned_over() -> None:
    """Classes of half a tile: twice as much as by chance; attention alike everywhere is chance."""
    assert _on_class([look(HALVES, on(HALVES))]) == pytest.approx(2)
    assert _on_class([look(HALVES, np.ones((2, 4, 4), np.float32))]) == pytest.approx(1)
    assert _on_class([look(HALVES, on(1 - HALVES))]) == pytest.approx(0)


def test_what_follows_the_class_has_no_place() -> None:
    """Two tiles, the second one mirrored: following the class leaves no mean, staying is all place."""
    following = [look(truth, on(truth)) for truth in (HALVES, 1 - HALVES)]
    staying = [look(truth, on(HALVES)) for truth in (HALVES, 1 - HALVES)]
    assert _on_place(following) == pytest.approx(0)
    assert _on_place(staying) == pytest.approx(1)


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_the_picture_is_red_where_a_query_looks(suffix: str, tmp_path: Path) -> None:
    """One model, two queries, four panels; the two of attention have red and blue halves, the other way round."""
    pytest.importorskip("matplotlib", reason="the extra training is not installed")
    image = np.full((3, 64, 64), 128, np.uint8)
    path = tmp_path / f"a.{suffix}"
    draw_attention(path, (image, HALVES), {"a model": on(HALVES)}, ("#202020", "#e0e0e0"), ("dark", "light"))
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    row = pixels[pixels.shape[0] // 2 - 20]
    warm = row[:, 0] > row[:, 2] + 60
    columns = np.flatnonzero(warm)
    assert 0.5 * len(row) < columns.min() < columns.max() < len(row)
    assert (row[:, 2] > row[:, 0] + 20).sum() == pytest.approx(warm.sum(), rel=0.2)
