"""What is damaged on disk is found, named, and made anew by the same call; nothing else is."""

import os
from pathlib import Path

import pytest

from pipeline.errors import OutputError
from pipeline.steps.journal import Journal
from pipeline.verify import verify


def flip(path: Path) -> None:
    """Change one bit in the middle; the file's time stays as it was."""
    data, stat = bytearray(path.read_bytes()), path.stat()
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def some_object(made, step):
    """A record of a step, and one of its files."""
    record = next(record for record in Journal(made.folder).records(step, fingerprint(made, step)) if record.objects)
    return record, made.folder / record.objects[0][0]


def fingerprint(made, step):
    """Of the run that stands."""
    return getattr(Journal(made.folder).spec(), f"{step}_fingerprint")


def test_an_unharmed_run_is_as_it_was_written(finished):
    """All its blocks are looked at, and it stays complete."""
    found = verify(finished.output)
    assert (found.checked, found.damaged) == ({"infer": 6, "render": 4}, ())
    assert Journal(finished.folder).complete


@pytest.mark.parametrize("step", ["infer", "render"])
@pytest.mark.parametrize("harm", [flip, Path.unlink, lambda path: path.write_bytes(b"")])
def test_damage_is_named_and_made_anew(finished, original, records, digests, step, harm):
    """A bit, a file, or all that is in it: the block that it belongs to, and no other, is done again."""
    record, path = some_object(finished, step)
    harm(path)
    [damage] = verify(finished.output).damaged
    assert (damage.step, damage.block) == (step, record.block)
    assert [(finished.folder / name).resolve() for name in damage.files] == [path.resolve()]
    before = records(finished.folder, step)
    finished.again()
    after = records(finished.folder, step)
    assert after.keys() == before.keys() | {record.block}
    assert all(after[block] == stamp for block, stamp in before.items())
    assert digests(finished.output) == digests(original.output)
    assert verify(finished.output).damaged == ()


def test_a_store_that_was_dropped_is_not_missed(finished):
    """As was asked for."""
    Journal(finished.folder).drop_store()
    found = verify(finished.output)
    assert (found.checked, found.damaged) == ({"render": 4}, ())


def test_a_run_at_work_is_left_alone(finished):
    """What is being written may look damaged."""
    with Journal(finished.folder).lock(), pytest.raises(OutputError, match="in use by another run"):
        verify(finished.output)
