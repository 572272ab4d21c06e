"""A record counts when it is whole, of this run, and what it promises is there."""

import errno
import json
import os
import subprocess
import sys
import time

import google_crc32c
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import OutputError
from pipeline.steps.journal import STALE_SECONDS, BlockRecord, Journal, checksum, sweep
from pipeline.storage.paths import write_atomically, write_first

RECORD = BlockRecord("0-1", "infer", "abc", 4096, 4, {"read": 0.5}, 8)


@pytest.fixture
def journal(tmp_path):
    """A run folder with one block done, of two objects."""
    journal = Journal(tmp_path / "out.run")
    objects = [journal.folder / "store" / name for name in ("a", "b")]
    for path in objects:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(100))
    journal.commit(RECORD, objects)
    return journal


def record_path(journal):
    """The file of the one record."""
    return journal.folder / "records" / "infer" / "0-1.json"


def counted(journal):
    """The blocks that count, asked for in both ways."""
    found = [record.block for record in journal.records("infer", "abc")]
    assert found == (["0-1"] if journal.find("infer", "0-1", "abc") else [])
    return found


def test_a_record_is_read_as_it_was_written(journal):
    """With its objects: relative path, length and crc32c."""
    (record,) = journal.records("infer", "abc")
    assert (record.block, record.pixels, record.tiles, record.seconds, record.batch_size) == (
        "0-1",
        4096,
        4,
        {"read": 0.5},
        8,
    )
    for path, size, crc in record.objects:
        content = (journal.folder / path).read_bytes()
        assert (size, crc) == (len(content), google_crc32c.value(content))
    assert record == journal.find("infer", "0-1", "abc")


def test_a_record_is_below_a_kilobyte(journal):
    """It is what a task returns through the scheduler."""
    assert record_path(journal).stat().st_size < 1000


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_record_whose_object_is_missing_does_not_count(journal, name):
    """Either of them."""
    (journal.folder / "store" / name).unlink()
    assert counted(journal) == []


@pytest.mark.parametrize("size", [0, 99, 101])
def test_a_record_whose_object_has_another_length_does_not_count(journal, size):
    """Shorter or longer."""
    os.truncate(journal.folder / "store" / "b", size)
    assert counted(journal) == []


def test_a_record_of_another_run_does_not_count(journal):
    """Its fingerprint is another."""
    assert counted(journal) == ["0-1"]
    assert list(journal.records("infer", "xyz")) == []
    assert journal.find("infer", "0-1", "xyz") is None


@pytest.mark.parametrize("change", [{"block": "0-2"}, {"step": "render"}])
def test_a_record_under_another_name_does_not_count(journal, change):
    """A copy of one block's record is no promise for another."""
    fields = json.loads(record_path(journal).read_text())
    record_path(journal).write_text(json.dumps(fields | change))
    assert counted(journal) == []


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_torn_record_does_not_count(journal, data):
    """Cut off anywhere."""
    path, whole = record_path(journal), record_path(journal).read_bytes()
    try:
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
        assert counted(journal) == []
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\0" * 300,
        "null",
        "[]",
        "3",
        '"x"',
        "{}",
        '{"objects": 3}',
        '{"objects": [[]]}',
        '{"objects": [[1]]}',
        '{"objects": [["a", "b", "c"]]}',
        '{"objects": [], "block": "0-1"}',
        '{"objects": [], "other": 1}',
        "\xff\xfe",
    ],
)
def test_garbage_is_no_record(journal, text):
    """And no error either: the block is simply done again."""
    record_path(journal).write_bytes(text.encode("latin-1"))
    assert counted(journal) == []


def test_files_left_by_a_kill_are_no_records(journal):
    """Nor do they keep the true ones from being found."""
    for name in ("0-2.json.5f.partial", ".0-3.json", "0-4.tmp"):
        (record_path(journal).parent / name).write_text(record_path(journal).read_text())
    assert counted(journal) == ["0-1"]


def test_old_leftovers_are_swept_and_young_ones_stay(journal):
    """A young one may be another process's work; what is no leftover stays whatever its age."""
    old, young, kept = (journal.folder / "store" / name for name in ("old.1.partial", "young.2.partial", "kept"))
    for path in (old, young, kept):
        path.write_text("x")
    for path in (old, kept):
        os.utime(path, (time.time() - STALE_SECONDS - 60,) * 2)
    sweep(journal.folder)
    assert [path.exists() for path in (old, young, kept)] == [False, True, True]


def test_a_block_done_again_replaces_its_record(journal):
    """The last complete writer wins."""
    journal.commit(RECORD, [journal.folder / "store" / "a"])
    assert len(journal.find("infer", "0-1", "abc").objects) == 1


def test_dropping_a_step_forgets_it_and_completeness(journal):
    """The other step's records stay."""
    journal.commit(BlockRecord("0-0", "render", "abc", 1), [])
    journal.note("COMPLETE", {})
    journal.drop("render")
    assert list(journal.records("render", "abc")) == []
    assert counted(journal) == ["0-1"]
    assert not journal.complete


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    """A write that fails leaves the old one."""
    write_atomically(tmp_path / "x", "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(tmp_path / "x", "\ud800")
    assert (tmp_path / "x").read_text() == "old"


@pytest.mark.parametrize("links", [True, False])
def test_the_first_to_write_a_file_has_written_it(tmp_path, monkeypatch, links):
    """Also where the file system knows no links, and nobody else is at it; nothing is left beside it."""

    def refuse(*paths):
        raise PermissionError(errno.EPERM, "no links here")

    if not links:
        monkeypatch.setattr("os.link", refuse)
    write_first(tmp_path / "x", "first")
    if links:
        write_first(tmp_path / "x", "second")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_text() == "first"


def test_checksums_are_of_all_bytes(tmp_path):
    """Also of files longer than one read."""
    content = os.urandom(2**20 + 17)
    (tmp_path / "x").write_bytes(content)
    assert checksum(tmp_path / "x") == google_crc32c.value(content)


HOLD = """
import sys, time, pathlib, pipeline.steps.journal
with pipeline.steps.journal.Journal(pathlib.Path(sys.argv[1])).lock():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_is_held_against_other_processes_and_dies_with_its_own(tmp_path):
    """SIGKILL leaves no lock behind."""
    journal = Journal(tmp_path / "out.run")
    with subprocess.Popen([sys.executable, "-c", HOLD, journal.folder], stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(OutputError, match=r"out\.run is in use by another run"):
            journal.lock().__enter__()
        holder.kill()
    with journal.lock():
        assert (journal.folder / "run.lock").exists()


def test_a_lock_is_held_against_the_same_process(tmp_path):
    """Two calls in two threads are two runs."""
    journal = Journal(tmp_path / "out.run")
    with journal.lock(), pytest.raises(OutputError, match="in use"), Journal(journal.folder).lock():
        pass
    with journal.lock():
        assert journal.folder.exists()


@pytest.mark.parametrize("text", ["", "{}", '{"format": 0}', "x"])
def test_a_run_spec_that_cannot_be_read_is_told(tmp_path, text):
    """With what can be done."""
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(OutputError, match=r"run\.json is not a run of this version .*--overwrite"):
        Journal(tmp_path).spec()
