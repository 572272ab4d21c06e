"""The class tables have the order of the public datasets."""

import pytest

from eomt_core.labels import class_colours, labels_for, palette


@pytest.mark.parametrize(
    ("count", "task", "known"),
    [
        (
            133,
            "panoptic",
            {0: "person", 79: "toothbrush", 80: "banner", 100: "road", 116: "tree-merged", 132: "rug-merged"},
        ),
        (80, "instance", {0: "person", 2: "car", 24: "backpack", 59: "bed", 72: "refrigerator", 79: "toothbrush"}),
        (150, "semantic", {0: "wall", 4: "tree", 21: "water", 80: "bus", 127: "bicycle", 149: "flag"}),
        (19, "semantic", {0: "road", 8: "vegetation", 10: "sky", 11: "person", 13: "car", 18: "bicycle"}),
    ],
)
def test_names_stand_at_their_ids(count: int, task: str, known: dict[int, str]) -> None:
    """Every table has as many distinct names as its models have classes, in the dataset's order."""
    labels = labels_for(count, task)
    assert labels is not None
    assert len(labels.classes) == len(set(labels.classes)) == count
    assert {index: labels.classes[index] for index in known} == known


@pytest.mark.parametrize(("count", "things"), [(133, 80), (80, 80), (150, 100), (19, 8)])
def test_things_are_the_countable_ones(count: int, things: int) -> None:
    """COCO has 80 things, ADE20K 100, Cityscapes 8; people and cars are among them wherever they are classes."""
    labels = labels_for(count)
    assert labels is not None
    assert len(labels.things) == things == len(set(labels.things))
    names = {labels.classes[index] for index in labels.things}
    assert {"person", "car"} <= names
    assert not names & {"sky", "road", "grass", "sea", "vegetation", "banner"}


def test_coco_instances_are_the_things_of_coco_panoptic() -> None:
    """The 80 instance classes are the first 80 panoptic ones."""
    panoptic, instance = labels_for(133), labels_for(80)
    assert panoptic is not None and instance is not None  # noqa: PT018
    assert panoptic.classes[:80] == instance.classes
    assert panoptic.things == tuple(range(80))


def test_other_counts_and_tasks_have_no_table() -> None:
    """Seven classes are nobody's; COCO's instance models do no semantics."""
    assert labels_for(7) is None
    assert labels_for(80, "semantic") is None


def test_colours_differ_and_stay() -> None:
    """200 classes have 200 colours, and a class keeps its colour when others are added."""
    assert len(set(palette(200))) == 200
    assert palette(5) == palette(200)[:5]
    assert all(0 <= value <= 255 for colour in palette(200) for value in colour)


def test_land_cover_has_the_colours_of_maps():
    """Known names whatever their case; others get theirs from the palette, at their own index."""
    water, other, forest = class_colours(("Water", "parking", "forest"))
    assert (water, forest) == ("#2f6fd0", "#1e6b3a")
    assert other == "#{:02x}{:02x}{:02x}".format(*palette(2)[1])
