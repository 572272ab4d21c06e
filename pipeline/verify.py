"""Whether what a run has written is still what it wrote; what is not will be made anew by the same run command."""

import os
from dataclasses import dataclass
from pathlib import Path

from pipeline.journal import Journal, Step
from pipeline.place import existing
from pipeline.run import steps_of
from pipeline.spec import RunSpec


@dataclass(frozen=True)
class Damage:
    """One block that is not as it was written: its files that are gone or have changed, relative to the run folder."""

    step: Step
    block: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class Verified:
    """What was found.

    Attributes:
        output: the mosaic.
        checked: by step, how many blocks were looked at.
        damaged: those that are to be made anew.
    """

    output: str
    checked: dict[Step, int]
    damaged: tuple[Damage, ...]


def verify(output: Path) -> Verified:
    """Hold every file of every block against its checksum, and forget the records of those that are damaged.

    Raises:
        OutputError: There is no run, or it is being worked on.
    """
    journal = existing(output)
    spec, checked, damaged = journal.spec(), dict[Step, int](), list[Damage]()
    with journal.lock():
        for step in steps_of(spec):
            kept = _journal(journal, spec, step)
            if step == "infer" and journal.complete and not (kept.folder / "store").exists():
                continue  # dropped, as was asked for
            checked[step] = 0
            for record in kept.written(step, getattr(spec, f"{step}_fingerprint")):
                checked[step] += 1
                if files := kept.damage(record):
                    damaged.append(Damage(step, record.block, files))
                    kept.forget(record)
        if spec.objects and any(one.step == "infer" for one in damaged):
            _join_again(journal)
        if damaged:
            journal.reopen()
    return Verified(str(output), checked, tuple(damaged))


def _journal(journal: Journal, spec: RunSpec, step: Step) -> Journal:
    """Where the records of a step are: those of inference may be another run's, whose store this one stitches."""
    return Journal(Path(os.path.normpath(journal.folder / spec.store)).parent) if step == "infer" else journal


def _join_again(journal: Journal) -> None:
    """Objects are known by their place in a tile's queries; inferred anew on a GPU, these may come in another order."""
    for step in ("link", "resolve", "render"):
        journal.drop(step)
