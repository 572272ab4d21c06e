"""Whether what a run has written is still what it wrote; what is not will be made anew by the same run command."""

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.place import existing
from pipeline.steps.journal import Step
from pipeline.steps.tasks import Tasks
from pipeline.storage.buckets import answering
from pipeline.storage.paths import AnyPath


@dataclass(frozen=True)
class Damage:
    """One block, and those of its files that are not as they were written, relative to the run folder."""

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


@answering()
def verify(output: AnyPath) -> Verified:
    """Hold every file of every block against its checksum, and forget the records of those that are damaged.

    Raises:
        OutputError: There is no run, or it is being worked on.
    """
    journal = existing(output)
    tasks = Tasks(journal.spec(), journal)
    with journal.lock():
        # A store that was dropped when all was done is not missed.
        steps = [step for step in tasks.steps if step != "infer" or tasks.store.exists() or not journal.complete]
        looked = {step: list(_look(tasks, step)) for step in steps}
        damaged = tuple(one for found in looked.values() for one in found if one.files)
        for one in damaged:
            tasks.journal_of(one.step).forget(one.step, one.block)
        if tasks.spec.objects and any(one.step == "infer" for one in damaged):
            # Objects are known by their place in a tile's queries, which a GPU may give in another order next time.
            journal.drop_stitched()
        if damaged:
            journal.reopen()
    return Verified(str(output), {step: len(found) for step, found in looked.items()}, damaged)


def _look(tasks: Tasks, step: Step) -> Iterator[Damage]:
    """All blocks of a step that were written, with what is wrong with them."""
    journal = tasks.journal_of(step)
    for record in journal.written(step, tasks.fingerprint(step)):
        if record.skipped:
            continue  # by its record the next run knows what was stitched without it; its files hold nothing
        yield Damage(step, record.block, journal.damage(record))
