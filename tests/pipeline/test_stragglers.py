"""A task that outlives its run must leave the next one alone."""

from dataclasses import replace

import pytest

from pipeline.errors import RunError
from pipeline.spec import Engine, read_spec
from pipeline.steps.infer import InferWorker
from pipeline.steps.journal import Journal
from pipeline.steps.render import RenderWorker
from pipeline.steps.worker import _render_worker, forget
from pipeline.storage.paths import write_atomically


@pytest.mark.parametrize("step", ["infer", "render"])
def test_a_task_of_an_old_run_writes_nothing_into_the_new_one(finished, step):
    """It sees, before it writes, that the run was begun anew."""
    journal = Journal(finished.folder)
    spec = journal.spec()
    old = replace(spec, output=str(finished.output))
    infer = step == "infer"
    worker = InferWorker.load(old, finished.folder, Engine("cpu")) if infer else RenderWorker(old, finished.folder)
    journal.begin(replace(old, precision="bf16", score_threshold=0.5))
    files = [path for place in (finished.folder, finished.output) for path in place.rglob("*") if path.is_file()]
    before = [path.stat().st_mtime_ns for path in files]
    with pytest.raises(RunError, match="begun anew with other options"):
        worker.run(spec.plan.block(0, 0), int) if infer else worker.run(spec.output_block(0, 0))
    assert [path.stat().st_mtime_ns for path in files] == before


def test_a_worker_that_lives_on_looks_at_repaired_blocks_anew(harmed):
    """What it keeps of a run is of the tiles as they were; it is kept as long as nothing is inferred again."""
    folder = harmed.with_suffix(".run")
    spec = read_spec(folder)
    before = _render_worker(spec, str(folder))
    assert _render_worker(spec, str(folder)) is before
    record = next((folder / "records" / "infer").iterdir())
    write_atomically(record, record.read_text())
    after = _render_worker(spec, str(folder))
    assert after is not before
    assert after.views is not before.views
    forget()
