"""Where a model lies: a directory, a file, or a repository of the Hugging Face hub; and which of its files count."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eomt_core.errors import ModelError
from eomt_core.json_fields import read_object

OWN_CARD = "eomt_batch.json"
WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_PICKLE = "pytorch_model.bin"
EMBEDDED = Path(__file__).parent / "models"
"""A folder per model that comes with the program."""

_CONFIGS = (OWN_CARD, "config.json", "preprocessor_config.json")
_SUFFIXES = (".safetensors", ".bin", ".ckpt", ".pt", ".pth")
_SAFETENSORS_PATTERNS = [*_CONFIGS, WEIGHTS, _INDEX, "model-*.safetensors"]
_HUB_ID = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True)
class ModelFiles:
    """The files that make a model.

    Attributes:
        name: what to call the model where no card says.
        path: the directory or the file.
        weights: files with tensors.
        index: the list of shards, where the weights are sharded.
        configs: the configuration files that are there, by file name.
    """

    name: str
    path: Path
    weights: tuple[Path, ...]
    index: Path | None
    configs: dict[str, Path]

    @property
    def all(self) -> tuple[Path, ...]:
        """Every file that decides what the model computes."""
        return (*self.weights, *([self.index] if self.index else []), *self.configs.values())


def find_files(location: str | Path) -> ModelFiles:
    """Find the files of a model: of a path that is there, else of an embedded model, else of the hub.

    Raises:
        ModelError: there is no such path and no such repository, or there are no weights.
    """
    path = Path(location).expanduser()
    if path.is_dir():
        return _in_directory(path, path.resolve().name)
    if path.exists():
        return _single_file(path)
    if str(location) in embedded():
        return _in_directory(EMBEDDED / str(location), str(location))
    match = _HUB_ID.fullmatch(str(location))
    if match is None or path.suffix in _SUFFIXES:
        raise ModelError(
            f"model {location}: no such file or directory, no embedded model ({', '.join(embedded())}), "
            "and no hub id of the form ORG/NAME[@REV]; check it"
        )
    return _in_directory(_download(match["repo"], match["revision"]), match["repo"])


def embedded() -> tuple[str, ...]:
    """The names of the models that come with the program."""
    return tuple(path.parent.name for path in sorted(EMBEDDED.glob(f"*/{OWN_CARD}")))


def _in_directory(path: Path, name: str) -> ModelFiles:
    configs = {config: path / config for config in _CONFIGS if (path / config).is_file()}
    if (path / WEIGHTS).is_file():
        return ModelFiles(name, path, (path / WEIGHTS,), None, configs)
    if (path / _INDEX).is_file():
        return ModelFiles(name, path, _shards(path / _INDEX), path / _INDEX, configs)
    if (path / _PICKLE).is_file():
        return ModelFiles(name, path, (path / _PICKLE,), None, configs)
    others = sorted(file.name for file in path.iterdir() if file.suffix in _SUFFIXES)
    hint = f"one of its files: {', '.join(others[:5])}" if others else "a directory that does"
    raise ModelError(f"model {path}: holds no {WEIGHTS}, {_INDEX} or {_PICKLE}; give {hint}")


def _single_file(path: Path) -> ModelFiles:
    if path.suffix not in _SUFFIXES:
        raise ModelError(f"model {path}: is no weight file; give one that ends in {', '.join(_SUFFIXES)}")
    if path.name in (WEIGHTS, _PICKLE):
        # Under its standard name the file is the model of its directory, and the configuration beside it is its own.
        configs = {config: path.parent / config for config in _CONFIGS if (path.parent / config).is_file()}
        return ModelFiles(path.resolve().parent.name, path, (path,), None, configs)
    return ModelFiles(path.stem, path, (path,), None, {})


def _shards(index: Path) -> tuple[Path, ...]:
    """Return the files that an index lists, each beside it."""
    weight_map = read_object(index.read_text(encoding="utf-8"), str(index)).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelError(f"{index}: has no weight_map")
    names = sorted({str(name) for name in weight_map.values()})
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ModelError(f"{index}: lists {name!r}, which is no safetensors file beside it")
        if not (index.parent / name).is_file():
            raise ModelError(f"{index}: lists {name}, which is not there; fetch it again")
    return tuple(index.parent / name for name in names)


def _download(repository: str, revision: str | None) -> Path:
    """Fetch a repository into the hub's cache, or find it there; safetensors if it has them, else the pickle."""
    path = _snapshot(repository, revision, _SAFETENSORS_PATTERNS)
    if not any(file.suffix == ".safetensors" for file in path.iterdir()):
        path = _snapshot(repository, revision, [*_CONFIGS, _PICKLE])
    return path


def _snapshot(repository: str, revision: str | None, patterns: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(patterns)))
    # The hub's own errors, those of its HTTP library (which changes with its version) and those of the disk: for the
    # user they are one thing.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(
            f"model {repository}: no such path here, and the hub did not give it ({type(error).__name__}: "
            f"{reason[:300]}); check the name, the network, and HF_TOKEN where access is restricted"
        ) from error
