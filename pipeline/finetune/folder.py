"""The folder of a training: what it was begun with, its losses, its checkpoint, and the model that it made."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from eomt_core.location import OWN_CARD, WEIGHTS
from pipeline.errors import DISK_FULL, ChangedError, InputError, OutputError, RetryLater
from pipeline.finetune.config import FinetuneConfig
from pipeline.steps.journal import Journal
from pipeline.storage.paths import write_atomically

CHOICES, LOSSES, SCORES, CHECKPOINT, REPORT = (
    "finetune.json",
    "losses.csv",
    "scores.csv",
    "checkpoint.pt",
    "report.json",
)
PICTURES = ("loss.png", "validation.png", "confusion.png")
MADE = (LOSSES, SCORES, CHECKPOINT, REPORT, WEIGHTS, OWN_CARD, *PICTURES, CHOICES)
"""What a training leaves; the choices last, so that what is left of a kill is still known as a training."""

DECIDED = ("task", "classes", "lr", "tile_size", "pixel_size", "masked", "precision")
"""Options that stand among what was decided, by their own value or by what was left to choose."""

APART = ("name", "mean", "std")
"""Of the card, what says nothing about the training, or is not known when it begins."""


@dataclass(frozen=True)
class Folder:
    """Where a training lies.

    Attributes:
        path: the folder; the model is in it, too.
    """

    path: Path

    @property
    def checkpoint(self) -> Path:
        """The state of a training that is not complete, or was."""
        return self.path / CHECKPOINT

    @property
    def stands(self) -> bool:
        """Whether a training was begun here."""
        return (self.path / CHOICES).exists()

    def check_free(self, config: FinetuneConfig) -> None:
        """See that a training can begin here, or go on.

        Raises:
            OutputError: something else is there, or a training that is not to go on, or none that is.
        """
        if _is_of(config.model, self.path):
            raise OutputError(f"--out {config.output}: is the model that is trained further; take another folder")
        if self.stands and not (config.resume or config.overwrite):
            raise OutputError(f"{self.path}: holds a training; give --resume to go on, or --overwrite to start afresh")
        if not self.stands and self.path.exists() and not self._is_empty():
            raise OutputError(f"{self.path}: is there, and is no training; take another name")
        if not self.stands and config.resume:
            raise OutputError(f"{self.path}: holds no training to go on with; leave --resume out")

    def check_same(self, config: FinetuneConfig, settled: Mapping[str, Any]) -> None:
        """See that a training that is to go on was begun with the same choices.

        Args:
            config: the choices.
            settled: what was decided where the choices leave it open.

        Raises:
            ChangedError: it was not; names the old and the new values.
        """
        if not config.resume:
            return
        try:
            old = json.loads((self.path / CHOICES).read_text(encoding="utf-8"))
            changed = _changes(old, json.loads(json.dumps({**config.lasting(), **settled})))
        except (OSError, ValueError, AttributeError) as error:
            raise InputError(
                f"{self.path / CHOICES}: cannot be read ({error}); start afresh with --overwrite"
            ) from error
        if changed:
            raise ChangedError(
                f"{self.path}: the training was begun with other choices: {'; '.join(changed)}; give the old ones, or "
                "--overwrite"
            )

    @contextmanager
    def begun(self, config: FinetuneConfig, settled: Mapping[str, Any]) -> Iterator[None]:
        """Hold the folder for this process, and note what the training is begun with if it is.

        Raises:
            OutputError: another process trains here, or the folder cannot be written.
            RetryLater: the disk is full.
        """
        with self._full_disk_told(), Journal(self.path).lock():
            if config.overwrite:
                self._clear()
            if not self.stands:
                self.note(CHOICES, {**config.lasting(), **settled})
            yield

    @contextmanager
    def _full_disk_told(self) -> Iterator[None]:
        """Say what to do when the disk is full: what was written whole is there, and nothing else."""
        try:
            yield
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            again = "give --resume to go on" if self.stands else "run the same command again"
            raise RetryLater(f"{self.path}: the disk is full ({error}); make room, then {again}") from error

    def report(self) -> dict[str, Any] | None:
        """What a training that is complete came to."""
        try:
            found: dict[str, Any] = json.loads((self.path / REPORT).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found

    def note(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file; it appears whole."""
        write_atomically(self.path / name, json.dumps(content, indent=2) + "\n")

    def log(self, losses: Sequence[float], scores: Sequence[tuple[int, float]]) -> None:
        """Write the loss of every step, counted from 1, and the validations."""
        write_atomically(self.path / LOSSES, _table("step,loss", list(enumerate(losses, 1))))
        write_atomically(self.path / SCORES, _table("step,score", scores))

    def _is_empty(self) -> bool:
        """Whether nothing is in it but what a training leaves that never began."""
        leftovers = ("run.lock", f"{CHOICES}.*.partial")
        return self.path.is_dir() and all(any(map(path.match, leftovers)) for path in self.path.iterdir())

    def _clear(self) -> None:
        """Drop a training, and nothing that is not one."""
        for name in MADE if self.stands else ():
            for path in (*self.path.glob(f".{name}*"), *self.path.glob(f"{name}.*.partial"), self.path / name):
                path.unlink(missing_ok=True)


def _is_of(model: str, folder: Path) -> bool:
    """Whether a model is what lies in a folder."""
    path = Path(model)
    return path.exists() and folder.resolve() in (path.resolve(), path.resolve().parent)


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs, in words: the options, else what was decided. What an older version did not note plays no part."""
    # The same files are the same model, wherever they lie.
    same = ("model", "base") if new["sha256"] and new["sha256"] == old.get("sha256") else ()
    inner = [part for part in new if isinstance(new[part], dict)]
    options = _differing(old, new, (*DECIDED, *same, *inner))
    decided: dict[str, tuple[Any, Any]] = {}
    for part in inner:
        decided |= _differing(old.get(part, {}), new[part], (*APART, *same))
    # What else was decided follows from the options, if one of these differs.
    changed = options | {name: pair for name, pair in decided.items() if name in DECIDED or not options}
    return [f"{_named(name)} was {_told(old)}, is {_told(now)}" for name, (old, now) in sorted(changed.items())]


def _differing(old: Mapping[str, Any], new: Mapping[str, Any], apart: Sequence[str]) -> dict[str, tuple[Any, Any]]:
    names = new.keys() & old.keys() - set(apart)
    return {name: (old[name], new[name]) for name in names if old[name] != new[name]}


def _named(name: str) -> str:
    """What a user calls it."""
    if name == "sha256":
        return "the checksum of --model"
    options = (*DECIDED, *(field.name for field in fields(FinetuneConfig)))
    return f"--{name.replace('_', '-')}" if name in options else f"the {name.replace('_', ' ')}"


def _told(value: Any) -> str:
    if value is None:
        return "not given"
    return ",".join(map(_told, value)) if isinstance(value, list) else str(value)


def _table(head: str, rows: Sequence[tuple[int, float]]) -> str:
    """Rows as CSV."""
    return "".join([f"{head}\n", *(f"{step},{value!r}\n" for step, value in rows)])
