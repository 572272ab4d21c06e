"""Which image goes with which labels, and which pairs are kept for validation."""

from collections.abc import Iterable, Sequence
from glob import glob, has_magic
from itertools import product
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import UsageError

SIDECARS = (".aux.xml", ".ovr", ".msk", ".xml", ".tfw", ".pgw", ".jgw", ".wld", ".prj", ".qml", ".qix", ".cpg")
"""What lies beside a raster or a shapefile and is neither image nor labels."""

PARTS = (".dbf", ".shx", ".gpkg-wal", ".gpkg-shm", ".gpkg-journal")
"""Files of which another one beside them is the one to open."""

SEPARATORS = "_-. "


class Pair(NamedTuple):
    """An image and its truth.

    Attributes:
        stem: What the two names have in common.
        image: The raster.
        labels: A raster or a vector file.
    """

    stem: str
    image: Path
    labels: Path


def find_pairs(images: str, labels: str) -> list[Pair]:
    """Pair images with labels by name, sorted by stem.

    Of `tile4_rgb.tif` and `tile4_labels.tif` the stem is `tile4`: an ending that all files of a side share is left out.
    One file with one file is a pair whatever the names.

    Args:
        images: A file, a folder, or a pattern such as `data/*_rgb.tif`.
        labels: The same.

    Raises:
        UsageError: Nothing is there, two files have one stem, or a file has no partner.
    """
    pictures, truths = _files(images, "IMAGES"), _files(labels, "LABELS")
    if len(pictures) == len(truths) == 1:
        return [Pair(pictures[0].stem, pictures[0], truths[0])]
    ours, theirs = _alike(_by_stem(pictures), _by_stem(truths))
    _check_partners(ours, theirs, labels)
    _check_partners(theirs, ours, images)
    return [Pair(stem, ours[stem], theirs[stem]) for stem in sorted(ours)]


def split_pairs(pairs: Sequence[Pair], val: Sequence[str]) -> tuple[list[Pair], list[Pair]]:
    """The pairs to train on, and those that `val` names.

    Args:
        pairs: All pairs.
        val: Stems, paths of images or labels, patterns of either, or `.txt` files with one of these per line.

    Raises:
        UsageError: A name that is none of the pairs', a list that cannot be read, or nothing left to train on.
    """
    held = set(chosen_pairs(pairs, val))
    training = [pair for pair in pairs if pair not in held]
    if not training:
        raise UsageError(f"--val {' '.join(val)}: takes all {len(pairs)} pairs; leave some to train on")
    return training, [pair for pair in pairs if pair in held]


def chosen_pairs(pairs: Sequence[Pair], names: Sequence[str]) -> list[Pair]:
    """The pairs that names mean; see `split_pairs`.

    Raises:
        UsageError: A name that is none of the pairs', or a list that cannot be read.
    """
    found = {pair for name in _names(names) for pair in _named(name, pairs)}
    return [pair for pair in pairs if pair in found]


def _files(text: str, side: str) -> list[Path]:
    """The files that one argument names, sorted."""
    path = Path(text)
    if path.is_file():
        return [path]
    if path.is_dir():
        found = _data(path.iterdir())
    elif has_magic(text):
        found = _data(map(Path, glob(text, recursive=True)))  # noqa: PTH207 - Path.glob takes no absolute pattern
    else:
        raise UsageError(f"{side} {text}: there is no such file or folder; give one, or a pattern in quotes")
    if not found:
        what = "holds no files" if path.is_dir() else "matches no file"
        raise UsageError(f"{side} {text}: {what}; give a file, a folder of files, or a pattern in quotes")
    return found


def _data(paths: Iterable[Path]) -> list[Path]:
    """Without folders, hidden files and sidecars."""
    endings = SIDECARS + PARTS
    return sorted(
        path
        for path in paths
        if path.is_file() and not path.name.startswith(".") and not path.name.lower().endswith(endings)
    )


def _by_stem(paths: Sequence[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        other = found.setdefault(path.stem, path)
        if other is not path:
            raise UsageError(
                f"{path}: has the same stem as {other}; keep one of them, or give a pattern such as *{path.suffix}"
            )
    return found


def _alike(ours: dict[str, Path], theirs: dict[str, Path]) -> tuple[dict[str, Path], dict[str, Path]]:
    """Both sides without the shared endings that give most partners; no ending is left out for nothing."""
    one, other = max(
        product(_endings(ours), _endings(theirs)),
        key=lambda pair: (len(_cut(ours, pair[0]).keys() & _cut(theirs, pair[1]).keys()), -len(pair[0] + pair[1])),
    )
    return _cut(ours, one), _cut(theirs, other)


def _cut(files: dict[str, Path], ending: str) -> dict[str, Path]:
    return {stem.removesuffix(ending): path for stem, path in files.items()}


def _endings(stems: Iterable[str]) -> list[str]:
    """What all stems end in, from a separator on: `_rgb` of `tile4_rgb` and `tile7_rgb`; nothing is one of them."""
    shortest = min(stems, key=len)
    endings = [shortest[at:] for at in range(1, len(shortest)) if shortest[at] in SEPARATORS]
    return ["", *(ending for ending in endings if all(stem.endswith(ending) for stem in stems))]


def _check_partners(these: dict[str, Path], those: dict[str, Path], side: str) -> None:
    """Refuse files without a partner."""
    alone = sorted(these.keys() - those.keys())
    if not alone:
        return
    more = f" (and {len(alone) - 1} more files)" if len(alone) > 1 else ""
    have = ", ".join(sorted(those)[:3])
    raise UsageError(
        f"{these[alone[0]]}: nothing in {side} has the stem {alone[0]}{more}; there are {have}"
        f"{' …' if len(those) > 3 else ''}; rename the files, or leave this one out with a pattern"
    )


def _names(val: Sequence[str]) -> list[str]:
    """The names, those in lists read."""
    names: list[str] = []
    for text in val:
        if text.lower().endswith(".txt"):
            names += _lines(Path(text))
        else:
            names.append(text)
    return names


def _lines(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise UsageError(f"--val {path}: cannot be read as a list ({error}); give one stem or path per line") from error
    found = [line for line in lines if line and not line.startswith("#")]
    if not found:
        raise UsageError(f"--val {path}: the list is empty; give one stem or path per line")
    return found


def _named(name: str, pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs that one name means."""
    path = Path(name)
    found = [pair for pair in pairs if name in (pair.stem, pair.image.stem, pair.labels.stem)]
    if not found:
        found = [pair for pair in pairs if path.resolve() in (pair.image.resolve(), pair.labels.resolve())]
    if not found and "/" not in name:
        found = [pair for pair in pairs if name in (pair.image.name, pair.labels.name)]
    if not found and has_magic(name):
        found = [pair for pair in pairs if _matches(name, pair)]
    if not found:
        have = ", ".join(pair.stem for pair in pairs[:3])
        raise UsageError(
            f"--val {name}: is none of the {len(pairs)} pairs ({have}{' …' if len(pairs) > 3 else ''}); "
            "give stems, or paths of images"
        )
    return found


def _matches(pattern: str, pair: Pair) -> bool:
    """Whether a pattern fits the stem or one of the files."""
    full = str(Path(pattern).absolute()) if "/" in pattern else pattern
    files = [pair.image.absolute(), pair.labels.absolute()]
    return Path(pair.stem).match(pattern) or any(file.match(full) for file in files)
