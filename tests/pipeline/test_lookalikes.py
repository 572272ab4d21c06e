"""Images that show the same ground stay on one side of the split."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pipeline.truth.lookalikes import LARGEST, choose_validation, cluster_images, image_sizes


@pytest.fixture
def write(make_raster):
    """`write(name, array)`: a raster of one band."""
    return lambda name, pixels: make_raster(name, np.clip(pixels, 0, 255).astype(np.uint8)[None])


def field(seed, shape=(200, 260), level=90.0, spread=25.0):
    """Blobs on a ground, as a microscope sees them."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 4)
    return level + spread * (noise - noise.mean()) / noise.std()


def test_pieces_of_one_field_are_a_cluster(write):
    """Two fields, each cut into four; the order of the files does not matter."""
    one, other = field(1, level=80), field(2, level=120)
    pieces = [part for image in (one, other) for half in np.split(image, 2) for part in np.split(half, 2, axis=1)]
    order = [0, 5, 2, 7, 4, 1, 6, 3]
    found = cluster_images([write(f"{place}.tif", pieces[place]) for place in order])
    assert found == [0, 1, 0, 1, 1, 0, 1, 0]


def test_the_same_place_twice_is_a_cluster(write):
    """Other noise and a little more light make no other image."""
    image = field(3)
    noise = np.random.default_rng(0).normal(0, 3, image.shape)
    paths = [write("a.tif", image), write("b.tif", 1.05 * image + noise), write("c.tif", field(4))]
    assert cluster_images(paths) == [0, 0, 1]


def test_images_of_different_fields_stay_apart(write):
    """Levels 10 % apart and nothing in common."""
    paths = [write(f"{seed}.tif", field(seed, level=40 * 1.1**seed, spread=8 * 1.1**seed)) for seed in range(12)]
    assert cluster_images(paths) == list(range(12))


def test_images_of_another_size_are_never_alike(write):
    """Not even a part of the same."""
    image = field(5)
    assert cluster_images([write("a.tif", image), write("b.tif", image[:, :-1])]) == [0, 1]


def test_the_same_light_ties_few_images_only(write):
    """Sixty fields with one mean and spread do not become one cluster."""
    found = cluster_images([write(f"{seed}.tif", field(seed, (260, 260))) for seed in range(60)])
    assert 1 < np.bincount(found).max() <= LARGEST * 60


@pytest.mark.filterwarnings("error")
def test_flat_and_tiny_images_are_looked_at_too(write):
    """A blank image continues nothing."""
    paths = [write("a.tif", np.zeros((50, 60))), write("b.tif", np.zeros((3, 2))), write("c.tif", np.full((1, 1), 9))]
    assert cluster_images(paths) == [0, 1, 2]
    assert image_sizes(paths) == [(50, 60), (3, 2), (1, 1)]


def test_of_a_large_image_a_sample_is_looked_at(write, monkeypatch):
    """The same place twice is found in it as well."""
    monkeypatch.setattr("pipeline.truth.lookalikes.WHOLE", 1000)
    monkeypatch.setattr("pipeline.truth.lookalikes.PIECE", 8)
    image = field(3)
    assert cluster_images([write("a.tif", image), write("b.tif", image + 2), write("c.tif", field(4))]) == [0, 0, 1]


CLUSTERS = [0, 0, 0, 1, 1, 2, 3, 4, 5, 5, 6, 6, 7, 8, 9, 9, 10, 11, 12, 12]
SIZES = ["s"] * 12 + ["t"] * 8


@pytest.mark.parametrize("seed", range(5))
def test_clusters_are_never_split(seed):
    """And about the share is taken, of each size."""
    chosen = choose_validation(CLUSTERS, 0.25, seed, SIZES)
    inside = {CLUSTERS[index] for index in chosen}
    assert chosen == {index for index, cluster in enumerate(CLUSTERS) if cluster in inside}
    assert 2 <= sum(SIZES[index] == "s" for index in chosen) <= 4
    assert 1 <= sum(SIZES[index] == "t" for index in chosen) <= 3


def test_the_seed_decides():
    """The same seed draws the same."""
    draws = [choose_validation(CLUSTERS, 0.25, seed, SIZES) for seed in range(6)]
    assert draws == [choose_validation(CLUSTERS, 0.25, seed, SIZES) for seed in range(6)]
    assert len(set(map(frozenset, draws))) > 1


def test_a_rare_size_is_validated_with_if_something_is_left_to_train_on():
    """Of three images of their own one is taken; a size of one cluster is trained on."""
    clusters, sizes = [0, 1, 2, 3, 3, *range(4, 14)], ["rare"] * 3 + ["alone"] * 2 + ["often"] * 10
    chosen = choose_validation(clusters, 0.1, 0, sizes)
    assert len(chosen & {0, 1, 2}) == 1
    assert not chosen & {3, 4}


def test_one_cluster_of_everything_is_cut_at_the_end():
    """Names follow the ground, as a rule."""
    assert choose_validation([0] * 10, 0.2, 0) == {8, 9}


def test_pieces_of_the_real_fields_stay_together(data_dir):
    """466 images of nuclei: many clusters, none of them large, and a fifth is drawn."""
    paths = sorted((data_dir / "nuclei" / "images").glob("*.png"))
    clusters = cluster_images(paths)
    sizes = np.bincount(clusters)
    assert len(sizes) > 120
    assert sizes.max() <= LARGEST * len(paths)
    assert (sizes == 4).sum() > 10  # fields were cut into 2 x 2
    chosen = choose_validation(clusters, 0.2, 0, image_sizes(paths))
    assert 0.17 < len(chosen) / len(paths) < 0.23
