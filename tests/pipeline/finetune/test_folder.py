"""The folder of a training: nothing else is touched, and what goes on is what was begun."""

import errno
import json

import pytest
from small_training import config_of

from pipeline.errors import ChangedError, InputError, OutputError, RetryLater
from pipeline.finetune.folder import CHOICES, Folder
from pipeline.steps.journal import Journal

SETTLED = {
    "training": {"lr": 0.1, "ema": 0.9},
    "card": {"name": "model"},
    "data": {"training_pairs": 2},
    "sha256": "ab",
}


@pytest.fixture
def folder(tmp_path):
    """Where nothing is yet."""
    return Folder(tmp_path / "model")


def begin(folder, settled=SETTLED, **options):
    """As a training does."""
    config = config_of(folder.path.parent, **options)
    folder.check_free(config)
    folder.check_same(config, settled)
    with folder.begun(config, settled):
        pass


def test_a_training_is_begun_once(folder):
    """Then it goes on, or is begun afresh, if that is asked for."""
    begin(folder)
    with pytest.raises(OutputError, match="model: holds a training; give --resume to go on, or --overwrite"):
        begin(folder)
    begin(folder, resume=True)
    begin(folder, overwrite=True)


def test_a_full_disk_is_told_with_what_to_do(folder):
    """A training that was begun goes on; other errors are not told as that."""
    config = config_of(folder.path.parent)
    words = "model: the disk is full .*; make room, then give --resume to go on"
    with pytest.raises(RetryLater, match=words) as caught, folder.begun(config, SETTLED):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.exit_code == 75
    with pytest.raises(OSError, match="Input/output error"), folder.begun(config, SETTLED):
        raise OSError(errno.EIO, "Input/output error")


def test_a_disk_too_full_to_begin_is_told(folder, monkeypatch):
    """There is nothing to go on with, and nothing in the way of the same command."""

    def full(self, name, content):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "note", full)
        with pytest.raises(RetryLater, match="make room, then run the same command again"):
            begin(folder)
    begin(folder)


def test_what_is_not_there_does_not_go_on(folder):
    """Nor is anything made."""
    with pytest.raises(OutputError, match="holds no training to go on with; leave --resume out"):
        begin(folder, resume=True)
    assert not folder.path.exists()


@pytest.mark.parametrize("option", [{}, {"overwrite": True}, {"resume": True}])
def test_a_folder_of_something_else_is_left_alone(folder, option):
    """Whatever is asked for."""
    folder.path.mkdir()
    (folder.path / "thesis.docx").touch()
    with pytest.raises(OutputError, match="is there, and is no training; take another name"):
        begin(folder, **option)
    assert [path.name for path in folder.path.iterdir()] == ["thesis.docx"]


def test_a_file_is_no_folder(folder):
    """Of a training."""
    folder.path.touch()
    with pytest.raises(OutputError, match="is there, and is no training"):
        begin(folder)


def test_an_empty_folder_will_do(folder):
    """And one that a killed beginning left."""
    folder.path.mkdir()
    (folder.path / "run.lock").touch()
    (folder.path / f"{CHOICES}.0123.partial").touch()
    begin(folder)
    assert folder.stands


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    """With the reason."""
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file/model.*cannot be written"):
        begin(Folder(tmp_path / "file" / "model"))


def test_starting_afresh_drops_the_training_alone(folder):
    """Pictures and files of the user stay; leftovers of a kill go."""
    begin(folder)
    ours = ["checkpoint.pt", ".checkpoint.pt", "model.safetensors", ".model.safetensors.0abc", "eomt_batch.json"]
    ours += ["losses.csv", "losses.csv.77.partial", "loss.png", "validation.png", "confusion.png", "report.json"]
    others = ["site.png", "notes.txt"]
    for name in (*ours, *others):
        (folder.path / name).touch()
    begin(folder, overwrite=True, steps=7)
    assert {path.name for path in folder.path.iterdir()} == {*others, CHOICES, "run.lock"}
    assert json.loads((folder.path / CHOICES).read_text())["steps"] == 7


def test_two_processes_do_not_train_in_one_folder(folder):
    """The second one is told, and drops nothing."""
    begin(folder)
    with Journal(folder.path).lock():
        for option in ("resume", "overwrite"):
            with pytest.raises(OutputError, match="is in use by another run"):
                begin(folder, **{option: True})
    assert folder.stands


@pytest.mark.parametrize("name", ["model", "model/model.safetensors"])
def test_a_model_is_not_trained_into_itself(folder, name):
    """It would be gone before another is there."""
    begin(folder)
    (folder.path / "model.safetensors").touch()
    with pytest.raises(OutputError, match="is the model that is trained further; take another folder"):
        begin(folder, model=str(folder.path.parent / name), overwrite=True)


@pytest.mark.parametrize(
    ("options", "changes", "words"),
    [
        ({"steps": 9}, {}, "--steps was 6, is 9; give"),
        ({"bands": "1", "seed": 4}, {}, "--bands was not given, is 1; --seed was 0, is 4"),
        ({"val": ("a", "b")}, {}, "--val was , is a,b"),
        ({"lr": 0.2}, {"training": {"lr": 0.2, "ema": 0.9}}, "--lr was 0.1, is 0.2"),
        ({}, {"training": {"lr": 0.1, "ema": 0.8}}, "the ema was 0.9, is 0.8"),
        ({}, {"data": {"training_pairs": 3}}, "the training pairs was 2, is 3"),
        ({}, {"sha256": "cd"}, "the checksum of --model was ab, is cd"),
        ({"steps": 9}, {"training": {"lr": 0.1, "ema": 0.8}}, "--steps was 6, is 9; give"),
    ],
)
def test_other_choices_do_not_go_on(folder, options, changes, words):
    """The old and the new value of what the user has changed, else of what came of it."""
    begin(folder)
    before = (folder.path / CHOICES).read_text()
    with pytest.raises(ChangedError, match=f"model: the training was begun with other choices: {words}"):
        begin(folder, {**SETTLED, **changes}, resume=True, **options)
    assert (folder.path / CHOICES).read_text() == before


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        ({"threads": 4, "device": "auto"}, {}),
        ({"lr": 0.1, "precision": "auto"}, {}),
        ({"model": "elsewhere/model"}, {}),
        ({}, {"card": {"name": "renamed"}}),
        ({}, {"new": {"idea": 1}}),
    ],
)
def test_what_changes_nothing_goes_on(folder, options, changes):
    """Another machine, a value that was the default, the same model at another place, a folder with another name."""
    begin(folder)
    before = (folder.path / CHOICES).read_bytes()
    begin(folder, {**SETTLED, **changes}, resume=True, **options)
    assert (folder.path / CHOICES).read_bytes() == before


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_choices_that_cannot_be_read_are_told(folder, text):
    """With the file, and what to do."""
    begin(folder)
    (folder.path / CHOICES).write_text(text)
    with pytest.raises(InputError, match=r"finetune\.json: cannot be read .*--overwrite"):
        begin(folder, resume=True)
    begin(folder, overwrite=True)


def test_logs_have_a_row_per_step(folder):
    """With all digits."""
    folder.log([0.5, 1 / 3], [(2, 0.25)])
    assert (folder.path / "losses.csv").read_text() == f"step,loss\n1,0.5\n2,{1 / 3!r}\n"
    assert (folder.path / "scores.csv").read_text() == "step,score\n2,0.25\n"


@pytest.mark.parametrize("text", [None, "", "{"])
def test_a_report_that_is_not_whole_is_none(folder, text):
    """The training ends again."""
    begin(folder)
    if text is not None:
        (folder.path / "report.json").write_text(text)
    assert folder.report() is None
