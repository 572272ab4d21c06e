"""A trained model is trained further: on its own classes and bands, on others, and on more."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from small_training import config_of, picture, stripes, write

from eomt_core import load_model, save_model
from eomt_core.describe import describe_model
from pipeline.errors import UsageError
from pipeline.finetune import finetune


@pytest.fixture
def trained(scenes):
    """A model of three bands and two classes."""
    finetune(config_of(scenes, "old", steps=2, classes=("land", "road")))
    return scenes


def test_a_model_is_trained_further(trained):
    """Its weights are where they were but for two steps, and numbered labels have the names that it knows."""
    outcome = finetune(config_of(trained, model=str(trained / "old"), steps=2))
    assert describe_model(outcome.output).card.classes == ("land", "road")
    new, old = load_file(trained / "model" / "model.safetensors"), load_file(trained / "old" / "model.safetensors")
    moved = max(float((new[name] - old[name]).abs().max()) for name in old)
    assert 0 < moved < 0.5


def test_a_model_takes_other_classes(trained):
    """What it knows by name it keeps."""
    finetune(config_of(trained, model=str(trained / "old"), steps=1, classes=("road", "sea"), lr=1e-9))
    new, old = load_file(trained / "model" / "model.safetensors"), load_file(trained / "old" / "model.safetensors")
    assert describe_model(str(trained / "model")).card.classes == ("road", "sea")
    assert torch.allclose(new["q.weight"][0], old["q.weight"][1], atol=1e-4)
    assert not torch.allclose(new["q.weight"][1], old["q.weight"][0], atol=1e-4)


def test_queries_that_compete_are_kept_however_many_they_are(trained):
    """A panoptic model of two queries and two classes has not one for each; three classes take no third."""
    card = replace(describe_model(str(trained / "old")).card, things=(1,), tasks=("panoptic",))
    save_model(load_model(trained / "old"), trained / "panoptic", card)
    options = {"task": "semantic", "classes": ("land", "road", "sea"), "steps": 1}
    finetune(config_of(trained, model=str(trained / "panoptic"), **options))
    shape = describe_model(str(trained / "model")).architecture
    assert (shape.num_classes, shape.num_queries) == (3, 2)


def test_a_model_takes_more_bands(trained):
    """Their numbers are on its card, so that a run takes the same."""
    for stem in "ab":
        write(trained / "images" / f"{stem}.tif", picture(stripes(), 5))
    finetune(config_of(trained, model=str(trained / "old"), steps=1, bands="5,1,2,3"))
    info = describe_model(str(trained / "model"))
    assert (info.architecture.in_channels, info.card.bands) == (4, ("5", "1", "2", "3"))
    assert load_model(trained / "model").eval()(torch.rand(1, 4, 32, 32)).stride == 2


def test_a_model_takes_no_fewer_bands(trained):
    """Nothing is begun."""
    with pytest.raises(UsageError, match="takes 3 bands, got 2; give as many with --bands, or more"):
        finetune(config_of(trained, model=str(trained / "old"), bands="1,2"))
    assert not (trained / "model").exists()
