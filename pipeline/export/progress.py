"""A run's course for its report: blocks done and missing, throughput over time, and where the seconds went."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from itertools import chain, product
from typing import Any

from pipeline.export.timeline import course
from pipeline.spec import RunSpec
from pipeline.steps.journal import BlockRecord, Journal
from pipeline.steps.object_table import count_objects
from pipeline.steps.tasks import Tasks
from pipeline.storage.paths import read_text

DONE, PARTLY, EMPTY, MISSING = "dpem"
"""A tile block: all tiles inferred, some of them nodata, all of them nodata, not inferred."""


def progress_facts(run: RunSpec, journal: Journal) -> dict[str, Any]:
    """What a run's folder tells, in JSON's types."""
    tasks = Tasks(run, journal)
    # Whatever the mosaic's path: it may have been moved, or be a copy.
    found = {step: list(tasks.journal_of(step).records(step, tasks.fingerprint(step))) for step in tasks.steps}
    inferred, rendered = [record for record in found["infer"] if not record.skipped], found["render"]
    return {
        "complete": journal.complete or len(rendered) == len(run.output_blocks),
        "grid": _grid(run, inferred) if found["infer"] else None,
        "skipped": {record.block: record.skipped for record in found["infer"] if record.skipped},
        "tiles": {"rows": run.plan.rows.origins, "cols": run.plan.cols.origins, "size": run.tile_size},
        "inferred": sum(record.tiles for record in inferred),
        "saturated": sum(record.saturated for record in found.get("link", ())),
        "objects": count_objects(journal.folder) if run.objects else None,
        "courses": {
            name: pace and asdict(pace)
            for name, pace in (("inference", course(inferred)), ("mosaic", course(rendered)))
        },
        "steps": _figures(journal).get("seconds", {}),
        "parts": _parts(chain.from_iterable(found.values())),
    }


def _grid(run: RunSpec, records: list[BlockRecord]) -> dict[str, Any]:
    """The state of each tile block, row by row, a letter each; and where the blocks begin."""
    plan = run.plan
    tiles = {record.block: record.tiles for record in records}
    states = [_state(run, tiles.get(f"{row}-{col}"), row, col) for row, col in product(*map(range, plan.block_grid))]
    sides = [plan.block_size * axis.stride for axis in (plan.rows, plan.cols)]
    starts = [[index * side for index in range(count)] for side, count in zip(sides, plan.block_grid, strict=True)]
    return {"states": "".join(states), "counts": Counter(states), "rows": starts[0], "cols": starts[1]}


def _state(run: RunSpec, tiles: int | None, row: int, col: int) -> str:
    if tiles is None:
        return MISSING
    size = run.plan.block_size
    rows, cols = (
        min(count, (index + 1) * size) - index * size for count, index in zip(run.plan.grid, (row, col), strict=True)
    )
    return EMPTY if tiles == 0 else DONE if tiles >= rows * cols else PARTLY


def _figures(journal: Journal) -> dict[str, Any]:
    """What the last run noted of itself."""
    try:
        found = json.loads(read_text(journal.folder / "report.json"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _parts(records: Iterable[BlockRecord]) -> dict[str, float]:
    """Seconds of all tasks together by what they did, of earlier runs too."""
    total: Counter[str] = Counter()
    for record in records:
        total.update(record.seconds)
    return {part: round(seconds, 3) for part, seconds in total.most_common()}
