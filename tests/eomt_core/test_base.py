"""Weights stored as differences from DINOv3 become what was trained, or are refused with what is missing."""

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_dinov3 import Published, port_name, publish_dinov3
from torch import Tensor

from eomt_core import EoMT, ModelError, load_model, save_model
from eomt_core.card import ModelCard
from eomt_core.checkpoint import to_huggingface
from eomt_core.describe import describe_model
from eomt_core.headers import read_values


@pytest.fixture
def publish(make_dinov3: Callable[..., Any], tmp_path: Path) -> Callable[..., Published]:
    """Publish a small model."""
    return lambda **sizes: publish_dinov3(make_dinov3(**sizes), tmp_path)


def answer(model: EoMT) -> Tensor:
    """All logits for an image of noise, in one row."""
    pixels = torch.rand(1, 3, 96, 128, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        masks = model.eval()(pixels)
    return torch.cat((masks.mask_logits.flatten(), masks.class_logits.flatten()))


def test_base_and_differences_make_the_whole(publish: Callable[..., Published]) -> None:
    """A difference added to its base gives the trained weights to the last bit, and masks that are off."""
    made = publish()
    sums, whole = load_model(made.differences, made.base), load_model(made.whole)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(sums.state_dict()[name], tensor) or name == "attn_mask_probs"
    assert sums.attn_mask_probs.tolist() == [-1.0] * 3
    assert torch.equal(answer(sums), answer(whole))


def test_a_base_may_be_timms(publish: Callable[..., Published], tmp_path: Path) -> None:
    """The encoder in timm's spelling, as one file, is a base too; one without biases is refused for them."""
    made = publish()
    backbone = load_model(save_base(made, tmp_path)).encoder.backbone.state_dict()
    save_file(backbone, tmp_path / "timm.safetensors")
    sums = load_model(made.differences, tmp_path / "timm.safetensors")
    assert torch.equal(answer(sums), answer(load_model(made.whole)))
    save_file(
        {name: t for name, t in backbone.items() if "bias" not in name or "attn.q" not in name},
        tmp_path / "b.safetensors",
    )
    with pytest.raises(
        ModelError, match=r"b\.safetensors: .*blocks\.0\.attn\.q_bias is missing.*give a DINOv3 of width 64"
    ):
        load_model(made.differences, tmp_path / "b.safetensors")


def save_base(made: Published, folder: Path) -> Path:
    """Put the base's encoder under the heads of the whole, so that it loads as a model."""
    base = {port_name(name): tensor for name, tensor in load_file(made.base / "model.safetensors").items()}
    save_file(load_file(made.whole / "model.safetensors") | base, folder / "started.safetensors")
    return folder / "started.safetensors"


def test_differences_alone_are_refused(publish: Callable[..., Published]) -> None:
    """Without a base the weights are noise: the message names the repository that has it, and the option."""
    made = publish(hidden_size=384, num_attention_heads=6)
    with pytest.raises(
        ModelError, match=r"facebook/dinov3-vits16-pretrain-lvd1689m: .* --base, or --base none"
    ) as caught:
        describe_model(made.differences)
    assert "\n" not in str(caught.value)


def test_saying_that_weights_are_whole(publish: Callable[..., Published]) -> None:
    """`none` in place of a base takes the numbers as they are, though the class token looks like a difference."""
    made = publish()
    state = load_file(made.whole / "model.safetensors")
    save_file(state | {"embeddings.cls_token": torch.zeros(1, 1, 64)}, made.whole / "model.safetensors")
    with pytest.raises(ModelError, match=r"--base none if they are whole"):
        load_model(made.whole)
    assert load_model(made.whole, "none").encoder.backbone.cls_token.abs().max() == 0


def test_a_base_for_whole_weights_is_refused(publish: Callable[..., Published], tmp_path: Path) -> None:
    """What is nearer to the base than to zero is no difference; nor is a model of ours, whatever its encoder."""
    made = publish()
    with pytest.raises(ModelError, match=r"are whole.*leave the base out"):
        describe_model(made.whole, made.base)
    save_model(load_model(made.whole), tmp_path / "own", ModelCard("tiny", tuple("abcdefg")))
    with pytest.raises(ModelError, match=r"are whole.*leave the base out"):
        describe_model(tmp_path / "own", made.base)


def test_a_base_for_a_table_of_positions_is_refused(
    make_state: Callable[..., dict[str, Tensor]], tmp_path: Path
) -> None:
    """A base says that the weights are differences; if they are not, something is mixed up."""
    save_file(make_state(), tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="leave the base out"):
        describe_model(tmp_path, base=tmp_path)


@pytest.mark.parametrize("what", ["nothing there", "another size", "another file"])
def test_what_is_no_base_is_refused(publish: Callable[..., Published], tmp_path: Path, what: str) -> None:
    """One line names the base, and what is wrong with it."""
    made, wrong = publish(), tmp_path / "wrong.safetensors"
    base = load_file(made.base / "model.safetensors")
    if what == "another size":
        save_file(base | {"norm.weight": torch.ones(128)}, wrong)
    elif what == "another file":
        save_file({"conv.weight": torch.ones(1)}, wrong)
    with pytest.raises(
        ModelError, match=r"--base .*wrong\.safetensors: .*(no such file|norm\.weight|is missing)"
    ) as caught:
        describe_model(made.differences, wrong)
    assert "\n" not in str(caught.value)


def test_another_base_is_another_model(publish: Callable[..., Published], tmp_path: Path) -> None:
    """The hash follows the content of the base, not its place."""
    made = publish()
    before = describe_model(made.differences, made.base).sha256()
    moved = made.base.rename(tmp_path / "moved")
    assert describe_model(made.differences, moved).sha256() == before
    tensors = load_file(moved / "model.safetensors")
    save_file(tensors | {"norm.bias": tensors["norm.bias"] + 1}, moved / "model.safetensors")
    assert describe_model(made.differences, moved).sha256() != before


def test_own_files_carry_dinov3(publish: Callable[..., Published], tmp_path: Path) -> None:
    """Saved as ours, the sum needs no base any more and answers the same, with the epsilon and the training size."""
    made = publish()
    model = load_model(made.differences, made.base)
    save_model(model, tmp_path / "own", ModelCard("tiny", tuple("abcdefg")))
    architecture = describe_model(tmp_path / "own").architecture
    assert (architecture.rope_theta, architecture.norm_eps, architecture.image_size) == (100, 1e-5, (160, 160))
    assert torch.equal(answer(load_model(tmp_path / "own")), answer(model))


def test_what_transformers_wrote_of_dinov3_comes_back(publish: Callable[..., Published]) -> None:
    """Loaded and converted back, a directory of the port has the same tensors again, save the criterion's."""
    made = publish()
    written = load_file(made.whole / "model.safetensors")
    back = to_huggingface(load_model(made.whole).state_dict())
    assert back.keys() == written.keys() - {"criterion.empty_weight"}
    assert all(torch.equal(back[name], written[name]) for name in back)


def test_a_lost_tensor_of_dinov3_is_named_as_the_file_would(publish: Callable[..., Published]) -> None:
    """A file of the reference without one tensor is refused by the reference's name for it."""
    made, name = publish(), "network.encoder.backbone.blocks.3.layer_scale2.lambda1"
    state = torch.load(made.differences)
    del state[name]
    torch.save(state, made.differences)
    with pytest.raises(ModelError, match=f"missing: {name};"):
        describe_model(made.differences, made.base)


def test_describing_differences_imports_no_torch(publish: Callable[..., Published]) -> None:
    """The class token of a pickle is read without torch."""
    made = publish()
    code = "import sys; from eomt_core.describe import describe_model\n"
    code += f"print(describe_model({str(made.differences)!r}, {str(made.base)!r}).architecture.depth)\n"
    code += "print([name for name in ('torch', 'timm', 'transformers') if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split("\n")[:2] == ["5", "[]"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_values_are_those_that_torch_reads(tmp_path: Path, dtype: torch.dtype) -> None:
    """Any kind of floats is read from either kind of file, also a part of a larger storage."""
    values = torch.linspace(-3, 3, 12).to(dtype)
    torch.save({"a": torch.zeros(3), "b": values[4:].reshape(1, 1, 8)}, tmp_path / "a.bin")
    save_file({"a": torch.zeros(3), "b": values[4:].reshape(1, 1, 8).clone()}, tmp_path / "a.safetensors")
    for file in ("a.bin", "a.safetensors"):
        assert np.array_equal(read_values(tmp_path / file, "b"), values[4:].float().numpy())


def test_a_pickle_without_its_values_is_refused(tmp_path: Path) -> None:
    """Names and shapes of a file that lost its numbers can still be read; the numbers are missed in one line."""
    torch.save({"cls_token": torch.ones(3)}, tmp_path / "whole.bin")
    with zipfile.ZipFile(tmp_path / "whole.bin") as whole, zipfile.ZipFile(tmp_path / "a.bin", "w") as file:
        for name in whole.namelist():
            if "/data/" not in name:
                file.writestr(name, whole.read(name))
    with pytest.raises(ModelError, match=r"cls_token holds no readable floats .*fetch it again") as caught:
        read_values(tmp_path / "a.bin", "cls_token")
    assert "\n" not in str(caught.value)


def test_integers_are_no_values(tmp_path: Path) -> None:
    """What holds no floats is refused by its name."""
    torch.save({"cls_token": torch.zeros(3, dtype=torch.int8)}, tmp_path / "a.bin")
    with pytest.raises(ModelError, match=r"cls_token holds no readable floats"):
        read_values(tmp_path / "a.bin", "cls_token")
