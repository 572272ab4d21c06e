"""Names and shapes tell what a weight file is, without torch and without running what is in it."""

import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from eomt_core import ModelError
from eomt_core.card import Architecture
from eomt_core.describe import describe_model
from eomt_core.formats import SHAPES, detect_format, to_huggingface, to_own, to_reference
from eomt_core.headers import read_shapes
from eomt_core.shapes import check_shapes, expected_shapes, infer_architecture

Tiny = Callable[..., Architecture]
MakeState = Callable[..., dict[str, Tensor]]


@st.composite
def architectures(draw: st.DrawFn, stems: bool = False, rotary: bool = False) -> Architecture:
    """ViTs of all kinds, with `stems` behind one; shapes alone tell all, save the training size of `rotary` ones."""
    dim, registers = 64 * draw(st.integers(1, 3)), draw(st.integers(1, 5))
    stem = tuple(draw(st.lists(st.integers(1, 40), min_size=1, max_size=3))) if stems else ()
    patch, depth = 2 ** (len(stem) + 1) if stem else draw(st.sampled_from((8, 14, 16))), draw(st.integers(1, 4))
    swiglu, hidden = not rotary and draw(st.booleans()), draw(st.integers(1, 600))
    side = patch * draw(st.integers(4, 9))
    return Architecture(
        embed_dim=dim,
        depth=depth,
        num_heads=dim // 64,
        patch_size=patch,
        image_size=(side, side),
        in_channels=draw(st.integers(1, 5)),
        num_queries=draw(st.integers(1, 300)),
        num_classes=draw(st.integers(1, 200)),
        num_blocks=draw(st.integers(1, depth)),
        num_upscale=draw(st.integers(1, len(stem)) if stem else st.integers(0, 1)),
        num_registers=registers,
        cls_token=True,
        no_embed_class=rotary or draw(st.booleans()),
        swiglu=swiglu,
        mlp_hidden=2 * hidden if swiglu else hidden,
        layer_scale=draw(st.booleans()),
        stem=stem,
        mask_width=draw(st.integers(1, 80)) if stem else 0,
        norm_eps=1e-5 if rotary else 1e-6,
        rope_theta=100.0 if rotary else 0.0,
    )


@given(architectures() | architectures(stems=True))
@settings(deadline=None, max_examples=80)
def test_shapes_tell_the_architecture(architecture: Architecture) -> None:
    """Inference from its own shapes gives an architecture back."""
    assert infer_architecture(expected_shapes(architecture), {}) == architecture


@given(architectures(rotary=True))
@settings(deadline=None, max_examples=40)
def test_shapes_and_a_training_size_tell_rotary_positions(architecture: Architecture) -> None:
    """Theta and the epsilon are those of DINOv3 unless stated; nothing else is guessed but the training size, 640."""
    shapes = expected_shapes(architecture)
    assert infer_architecture(shapes, {"image_size": architecture.image_size}) == architecture
    guessed = infer_architecture(shapes, {})
    assert replace(guessed, image_size=architecture.image_size) == architecture
    assert abs(guessed.image_size[0] - 640) <= architecture.patch_size // 2


@given(architectures() | architectures(rotary=True))
@settings(deadline=None, max_examples=60)
def test_spellings_are_renamings(architecture: Architecture) -> None:
    """To the reference, which is refused for rotary positions, and to Hugging Face and back, changes nothing."""
    own = expected_shapes(architecture)
    if architecture.rope_theta:
        with pytest.raises(ModelError, match="take Hugging Face's"):
            to_reference(own)
    else:
        assert to_own(to_reference(own), SHAPES) == own
    assert to_own(to_huggingface(own, SHAPES, gated=architecture.swiglu), SHAPES) == own


def test_every_tensor_counts(tiny: Tiny, with_stem: Tiny) -> None:
    """Whichever tensor is missing, save the annealing buffer, the weights are refused and the tensor is named."""
    rotary = tiny(rope_theta=100.0)
    for architecture in (tiny(), tiny(swiglu=True), tiny(num_registers=0, no_embed_class=False), with_stem(), rotary):
        whole = expected_shapes(architecture)
        for name in whole.keys() - {"attn_mask_probs"}:
            rest = {other: shape for other, shape in whole.items() if other != name}
            with pytest.raises(ModelError, match=name.replace(".", r"\.")):
                check_shapes(rest, infer_architecture(rest, {}))


def test_hostile_sizes_end_quickly(tiny: Tiny) -> None:
    """Names and shapes that speak of a billion blocks or classes are refused without making anything of that size."""
    shapes = expected_shapes(tiny())
    stray = shapes | {"encoder.backbone.blocks.1000000000.norm1.weight": (64,)}
    architecture = infer_architecture(stray, {})
    with pytest.raises(ModelError, match="unexpected"):
        check_shapes(stray, architecture)
    with pytest.raises(ModelError, match="1000000000 classes"):
        infer_architecture(shapes | {"class_head.weight": (1000000001, 64)}, {})


def test_half_of_a_joined_tensor_is_refused(tiny: Tiny) -> None:
    """A query projection without its keys and values is an error that names them."""
    names = to_huggingface(expected_shapes(tiny()), SHAPES, gated=False)
    del names["layers.2.attention.k_proj.bias"]
    with pytest.raises(ModelError, match=r"layers\.2\.attention\.k_proj\.bias"):
        to_own(names, SHAPES)


def test_two_spellings_of_one_tensor_are_refused(tiny: Tiny) -> None:
    """Old and new names for the gated MLP of the same block contradict each other."""
    names = to_huggingface(expected_shapes(tiny(swiglu=True)), SHAPES, gated=True)
    names["layers.0.mlp.weights_in.weight"] = (256, 64)
    with pytest.raises(ModelError, match="two tensors"):
        to_own(names, SHAPES)


def test_a_stem_has_no_other_spelling(with_stem: Tiny) -> None:
    """The port has no place for a convolutional stem, and says so instead of losing it."""
    with pytest.raises(ModelError, match=r"no place for .*patch_embed\.proj"):
        to_huggingface(expected_shapes(with_stem()), SHAPES, gated=False)


def test_compiled_models_are_recognised(tiny: Tiny) -> None:
    """What torch.compile puts into names does not hide the spelling, and comes off."""
    own = expected_shapes(tiny())
    compiled = {f"network._orig_mod.{name}": shape for name, shape in own.items()}
    assert detect_format(compiled) == "reference"
    assert to_own(compiled, SHAPES) == own


def test_what_is_stated_must_fit(tiny: Tiny) -> None:
    """A configuration that contradicts the weights is refused with both numbers."""
    shapes = expected_shapes(tiny())
    with pytest.raises(ModelError, match="num_registers 2, the weights have 4"):
        infer_architecture(shapes, {"num_registers": 2})
    with pytest.raises(ModelError, match="16 positions are no grid for 32x32"):
        infer_architecture(shapes, {"image_size": (32, 32)})


def test_oblong_training_sizes_must_be_stated(tiny: Tiny) -> None:
    """3 x 5 positions are no square; stated, they keep rows before columns."""
    shapes = expected_shapes(tiny(image_size=(48, 80)))
    with pytest.raises(ModelError, match="image_size"):
        infer_architecture(shapes, {})
    assert infer_architecture(shapes, {"image_size": (48, 80)}).grid == (3, 5)


def test_a_lost_annealing_buffer_leaves_the_published_depths(tiny: Tiny) -> None:
    """Without the buffer, depth 12 means 3 query blocks; other depths need a configuration."""
    shapes = expected_shapes(tiny(depth=12, num_blocks=3))
    del shapes["attn_mask_probs"]
    assert infer_architecture(shapes, {}).num_blocks == 3
    other = expected_shapes(tiny())
    del other["attn_mask_probs"]
    with pytest.raises(ModelError, match="num_blocks"):
        infer_architecture(other, {})
    assert infer_architecture(other, {"num_blocks": 2}).num_blocks == 2


def test_other_weights_are_refused(tmp_path: Path) -> None:
    """A file of some other network is no EoMT, and says what it holds instead."""
    save_file({"conv.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match=r"no EoMT.*conv\.weight"):
        describe_model(tmp_path / "other.safetensors")


def test_headers_agree_with_torch(make_state: MakeState, tmp_path: Path) -> None:
    """Shapes read without torch, from either kind of file, are those of the tensors, views and parameters included."""
    state = make_state() | {"view": torch.zeros(4, 6).T, "parameter": torch.nn.Parameter(torch.zeros(2, 3))}
    torch.save(state, tmp_path / "a.bin")
    torch.save(
        {"state_dict": state, "epoch": 3, "optimizer_states": [{"state": {0: torch.ones(2)}}]}, tmp_path / "b.ckpt"
    )
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "c.safetensors")
    wanted = {name: tuple(tensor.shape) for name, tensor in state.items()}
    for file in ("a.bin", "b.ckpt", "c.safetensors"):
        assert read_shapes(tmp_path / file) == wanted


class Trap:
    """Unpickled naively, this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def test_a_malicious_pickle_runs_nothing(make_state: MakeState, tmp_path: Path) -> None:
    """A checkpoint that carries a call is refused by the name of what it calls, and the call is not made."""
    torch.save(make_state() | {"trap": Trap(tmp_path / "sprung")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"refused.*mkdir"):
        describe_model(tmp_path)
    assert not (tmp_path / "sprung").exists()


def test_a_pickle_cannot_bend_the_reader(make_state: MakeState, tmp_path: Path) -> None:
    """State set on what the reader hands out, here on the tensor maker itself, does not outlive the file."""
    evil = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x05\x00\x00\x00shapeK\x01sb."
    with zipfile.ZipFile(tmp_path / "evil.bin", "w") as archive:
        archive.writestr("archive/data.pkl", evil)
    with pytest.raises(ModelError):
        read_shapes(tmp_path / "evil.bin")
    torch.save(make_state(), tmp_path / "good.bin")
    assert read_shapes(tmp_path / "good.bin")["q.weight"] == (5, 64)


@pytest.mark.parametrize("content", [b"", b"\x00" * 8, b"\xff" * 64, pickle.dumps({"q.weight": 1}), b"PK\x03\x04"])
@pytest.mark.parametrize("name", ["model.safetensors", "model.bin"])
def test_damaged_files_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    """Files that are none of what their name says end in one line that names them."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=name) as caught:
        describe_model(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_truncated_safetensors_are_refused(make_state: MakeState, tmp_path: Path) -> None:
    """A download that stopped early is told by its length."""
    save_file(make_state(), tmp_path / "model.safetensors")
    with (tmp_path / "model.safetensors").open("r+b") as file:
        file.truncate(5000)
    with pytest.raises(ModelError, match="fetch it again"):
        describe_model(tmp_path)


def test_shards_stay_beside_their_index(tmp_path: Path) -> None:
    """An index that points out of its directory is refused."""
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"q.weight": "../x.safetensors"}}')
    with pytest.raises(ModelError, match="beside it"):
        describe_model(tmp_path)


def run_python(code: str, **environment: str) -> SimpleNamespace:
    """Run code in a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True)
    return SimpleNamespace(out=done.stdout.strip(), err=done.stderr)


def test_describing_imports_no_torch(make_state: MakeState, tmp_path: Path) -> None:
    """What a pickle and a safetensors file hold is told without torch, timm or transformers."""
    torch.save(make_state(), tmp_path / "a.bin")
    save_file(make_state(), tmp_path / "a.safetensors")
    code = "import sys; from eomt_core.describe import describe_model\n"
    code += f"for end in ('bin', 'safetensors'): print(describe_model('{tmp_path}/a.' + end).architecture.depth)\n"
    code += "print([name for name in ('torch', 'timm', 'transformers', 'safetensors') if name in sys.modules])"
    assert run_python(code).out.split("\n") == ["4", "4", "[]"]


def fill_hub_cache(cache: Path, state: dict[str, Tensor]) -> None:
    """Lay a repository into a cache the way the hub's client does."""
    repository, revision = cache / "models--org--tiny", "0" * 40
    (repository / "snapshots" / revision).mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    save_file(state, repository / "snapshots" / revision / "model.safetensors")


def test_hub_ids_are_found_in_the_cache(make_state: MakeState, tmp_path: Path) -> None:
    """Offline, a cached repository is used and another one fails in one line, still without torch."""
    fill_hub_cache(tmp_path, make_state())
    code = "import sys; from eomt_core.describe import describe_model\n"
    code += "print(describe_model('org/tiny').card.name, describe_model('org/tiny@main').architecture.num_queries)\n"
    code += "try: describe_model('org/other')\nexcept ValueError as error: print(error)\n"
    code += "print('torch' in sys.modules)"
    lines = run_python(code, HF_HUB_OFFLINE="1", HF_HUB_CACHE=str(tmp_path)).out.split("\n")
    assert lines[0] == "org/tiny 5"
    assert lines[1].startswith("model org/other: no such path here")
    assert lines[2:] == ["False"]


def test_an_existing_path_wins_over_the_hub(
    make_state: MakeState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory org/name is used as it is; a missing file of weights is no hub id."""
    (tmp_path / "org" / "name").mkdir(parents=True)
    save_file(make_state(), tmp_path / "org" / "name" / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    assert describe_model("org/name").format == "own"
    with pytest.raises(ModelError, match="no such file or directory"):
        describe_model("org/missing.safetensors")
