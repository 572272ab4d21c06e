"""Cards say what a model was trained for, and say so precisely when they are wrong."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import save_file
from torch import Tensor

from eomt_core import ModelError
from eomt_core.card import Architecture, ModelCard, default_task
from eomt_core.describe import describe_model


def test_cards_survive_json() -> None:
    """A card comes back from JSON as it was, and so does an architecture."""
    card = ModelCard(
        name="fields",
        classes=("wheat", "maïs"),
        things=(1,),
        tasks=("panoptic",),
        bands=("red", "green", "blue"),
        value_range=((0.0, 3000.0),),
        pixel_size=0.25,
        licence="CC-BY-4.0",
    )
    assert ModelCard.from_json(card.to_json()) == card
    assert card.stuff == (0,)


def test_architectures_survive_json(tiny: Callable[..., Architecture]) -> None:
    """An architecture comes back from JSON as it was."""
    assert Architecture.from_json(tiny().to_json()) == tiny()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no JSON"),
        ("[]", "object was expected"),
        ('{"name": "a"}', "missing fields classes"),
        ('{"name": "a", "classes": ["b"], "colour": 1}', "unknown fields colour"),
        ('{"name": "a", "classes": "b"}', "field classes"),
        ('{"name": "a", "classes": ["b"], "things": [1]}', "things go from 0 to 0"),
        ('{"name": "a", "classes": ["b"], "things": [true]}', "field things"),
        ('{"name": "a", "classes": ["b"], "tasks": ["depth"]}', "unknown tasks"),
        ('{"name": "a", "classes": ["b"], "pixel_size": NaN}', "field pixel_size"),
        ('{"name": "a", "classes": ["b"], "value_range": [[3, 1]]}', "value_range"),
        ('{"name": "a", "classes": ["b"], "score_threshold": 2}', "thresholds"),
    ],
)
def test_bad_cards_are_refused(text: str, message: str) -> None:
    """Whatever is wrong with a card, the message names it."""
    with pytest.raises(ModelError, match=message):
        ModelCard.from_json(text)


def test_one_value_range_may_stand_for_all_bands() -> None:
    """A single pair may be written without the outer list."""
    assert ModelCard.from_json('{"name": "a", "classes": ["b"], "value_range": [0, 255]}').value_range == ((0, 255),)


def test_the_task_follows_the_card_then_the_class_count() -> None:
    """The first task listed is the default; without any, 133, 80 and 19 classes tell, and others must be asked for."""
    assert [default_task(count) for count in (133, 80, 19, 150)] == ["panoptic", "instance", "semantic", None]
    listed = ModelCard(name="m", classes=("a",), tasks=("panoptic",))
    assert (listed.choose_task(None), listed.choose_task("semantic")) == ("panoptic", "semantic")
    with pytest.raises(ModelError, match="not for instance"):
        listed.choose_task("instance")
    with pytest.raises(ModelError, match="does not say its task"):
        ModelCard(name="m", classes=("a",)).choose_task(None)


def test_made_up_cards_take_names_from_the_configuration(huggingface_directory: Path) -> None:
    """Placeholders are no names; real ones are used, and without either the classes are numbered."""
    assert describe_model(huggingface_directory).card.classes[:2] == ("class_0", "class_1")
    path = huggingface_directory / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"id2label": {str(index): f"kind {index}" for index in range(7)}}))
    assert describe_model(huggingface_directory).card.classes[:2] == ("kind 0", "kind 1")


def test_made_up_cards_know_the_public_datasets(
    tiny: Callable[..., Architecture], make_state: Callable[..., dict[str, Tensor]], tmp_path: Path
) -> None:
    """133 classes are those of COCO panoptic, with its stuff."""
    save_file(make_state(tiny(num_classes=133)), tmp_path / "coco.safetensors")
    card = describe_model(tmp_path / "coco.safetensors").card
    assert (card.name, card.classes[100], card.default_task) == ("coco", "road", "panoptic")
    assert card.stuff == tuple(range(80, 133))
