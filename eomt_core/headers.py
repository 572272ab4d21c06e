"""Names and shapes of the tensors in a weight file: read without torch, and without running anything that is in it."""

import io
import json
import math
import pickle
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eomt_core.errors import ModelError

Shape = tuple[int, ...]

# Names and shapes of the largest published model take 0.1 MB; what is far beyond that is an attack or an accident.
_MAX_HEADER_BYTES = 100 * 2**20
_MAX_PICKLE_BYTES = 64 * 2**20
_REBUILDERS = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3")
_HARMLESS = {("_codecs", "encode"), ("collections", "Counter"), ("collections", "defaultdict")} | {
    ("builtins", name) for name in ("bytearray", "complex", "dict", "float", "int", "list", "set", "slice", "tuple")
}
# Floats by the names that safetensors and torch have for them; numpy knows no bfloat16, the upper half of a float32.
_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_FLOATS |= {"DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "BFloat16Storage": "<u2"}


def read_shapes(path: Path) -> dict[str, Shape]:
    """Read tensor names and shapes off a `.safetensors` header, or off the pickle of a `.bin`, `.ckpt` or `.pt`.

    Raises:
        ModelError: the file is damaged, is no such file, or its pickle names something other than tensors.
    """
    return _safetensors_shapes(path) if path.suffix == ".safetensors" else _pickle_shapes(path)


def read_values(path: Path, name: str) -> NDArray[np.float32]:
    """Read the values of one tensor, which should be small and stored in one piece: (N,).

    Raises:
        ModelError: the file is damaged, or the tensor holds no floats.
    """
    find = _find_in_safetensors if path.suffix == ".safetensors" else _find_in_pickle
    try:
        kind, data = find(path, name)
        values = np.frombuffer(data, _FLOATS[kind])
    # What a damaged or hostile file makes readers raise is not a closed list.
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ModelError(f"{path}: {name} holds no readable floats ({reason}); fetch it again") from error
    whole = (values.astype(np.uint32) << 16).view(np.float32) if _FLOATS[kind] == "<u2" else values
    return whole.astype(np.float32)


def _find_in_safetensors(path: Path, name: str) -> tuple[str, bytes]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(length))[name]
        begin, end = entry["data_offsets"]
        file.seek(8 + length + begin)
        return str(entry["dtype"]), file.read(end - begin)


def _find_in_pickle(path: Path, name: str) -> tuple[str, bytes]:
    tensor = _pickled(path)[name]
    dtype = np.dtype(_FLOATS[tensor.storage.kind])
    with zipfile.ZipFile(path) as archive:
        member = next(entry for entry in archive.namelist() if entry.endswith(f"/data/{tensor.storage.key}"))
        with archive.open(member) as file:
            file.seek(tensor.offset * dtype.itemsize)
            return tensor.storage.kind, file.read(math.prod(tensor.shape) * dtype.itemsize)


def _safetensors_shapes(path: Path) -> dict[str, Shape]:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, _MAX_HEADER_BYTES):
                raise ValueError("the header is longer than the file")
            header = json.loads(file.read(length))
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        end = 8 + length + max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        if end != size:
            raise ValueError(f"it should have {end} bytes and has {size}")
        return {name: _shape(tuple(entry["shape"])) for name, entry in entries.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ModelError(f"{path}: no intact safetensors file ({error}); fetch it again") from error


def _pickle_shapes(path: Path) -> dict[str, Shape]:
    return {name: tensor.shape for name, tensor in _pickled(path).items()}


def _pickled(path: Path) -> dict[str, "_TensorShape"]:
    try:
        loaded = _ShapeUnpickler(io.BytesIO(_read_pickle(path))).load()
    except ModelError as error:
        raise ModelError(f"{path}: refused, {error}") from error
    # A hostile pickle can make the interpreter raise anything at all; none of it may reach the caller as it is.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".replace("\n", " ")
        raise ModelError(f"{path}: no readable torch checkpoint ({reason}); save it as safetensors") from error
    state = _state_of(loaded)
    if not state:
        raise ModelError(f"{path}: holds no named tensors; give the file that torch.save made of a state dict")
    return state


def _read_pickle(path: Path) -> bytes:
    """Return the pickle inside a torch zip file; older torch files are bare pickles and not read."""
    with zipfile.ZipFile(path) as archive:
        members = [entry for entry in archive.infolist() if entry.filename.endswith("/data.pkl")]
        if len(members) != 1 or members[0].file_size > _MAX_PICKLE_BYTES:
            raise ValueError("a torch file holds one data.pkl of moderate size")
        return archive.read(members[0])


def _state_of(loaded: object) -> dict[str, "_TensorShape"]:
    """Find the state dict in what was unpickled: the object itself, or its `state_dict` as Lightning writes it."""
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    entries: Mapping[Any, Any] = loaded if isinstance(loaded, dict) else {}
    return {str(name): value for name, value in entries.items() if isinstance(value, _TensorShape)}


class _Storage(NamedTuple):
    """Stands for what tensors keep their values in: a member of the archive."""

    kind: str = ""
    key: str = ""


class _TensorShape(NamedTuple):
    """Stands for a tensor."""

    shape: Shape
    storage: _Storage = _Storage()
    offset: int = 0


class _State(dict[Any, Any]):
    """Stands for an OrderedDict, which can carry attributes."""


class _Inert:
    """Stands for everything else that a checkpoint names: takes any arguments, does nothing."""

    def __init__(self, *arguments: object) -> None:
        pass


class _ShapeUnpickler(pickle._Unpickler):
    """Builds shapes where torch would build tensors.

    The unpickler in Python, not the one in C: that one allocates as much as a hostile memo index asks for. Names
    become fresh partials, so a pickle that sets attributes of "its" function changes nothing beyond its own load.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return partial(_State)
        if module == "torch._utils" and name in _REBUILDERS:
            return partial(_rebuild_tensor)
        if module == "torch._utils" and name == "_rebuild_parameter":
            return partial(_rebuild_parameter)
        if module.partition(".")[0] == "torch" or (module, name) in _HARMLESS:
            return partial(_Inert, name)
        raise ModelError(f"its pickle names {module}.{name}, which is no tensor; save the state dict alone")

    def persistent_load(self, pid: Any) -> _Storage:
        _, kind, key, *_ = pid
        return _Storage(str(kind.args[0]), str(key))


def _rebuild_tensor(storage: _Storage, offset: int, size: object, *rest: object) -> _TensorShape:
    return _TensorShape(_shape(size), storage, offset)


def _rebuild_parameter(data: _TensorShape, *rest: object) -> _TensorShape:
    return data


def _shape(size: object) -> Shape:
    """Check that a size is a tuple of counts."""
    if not isinstance(size, tuple) or not all(type(length) is int and length >= 0 for length in size):
        raise ValueError(f"{size!r} is no shape")
    return size
