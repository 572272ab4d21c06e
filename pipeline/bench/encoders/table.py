"""The results of an experiment, one row per configuration."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import NamedTuple, Self

from pipeline.bench.encoders.experiment import CONFIGURATIONS
from pipeline.bench.encoders.focus import Focus
from pipeline.bench.encoders.growth import Growth
from pipeline.bench.encoders.trial import Trial

MEASURES = ("miou", "boundary_f1", "seams", "loss", "wobble", "transferred", "scratch")
"""Of a trial, what is averaged over the seeds."""

LOOKS = ("on_class", "on_place")
"""Of a focus."""

Result = Trial | Focus | Growth


class Spread(NamedTuple):
    """A mean over seeds and their standard deviation; None of a single one."""

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Self | None:
        """Of no values nothing."""
        if not values:
            return None
        return cls(round(mean(values), 4), round(stdev(values), 4) if len(values) > 1 else None)

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + ("" if self.deviation is None else f" ± {self.deviation:.3f}")


@dataclass(frozen=True)
class EncodersRow:
    """One configuration.

    Attributes:
        configuration: what stands behind `new:`.
        title: in words.
        seeds: trainings.
        failed: of these, how many came to nothing.
        measures: mean and spread over those that did not, by the names of `MEASURES` and `LOOKS`.
        growth: costs by size of the tile.
        seconds: of one trial, on average.
    """

    configuration: str
    title: str
    seeds: int
    failed: int
    measures: dict[str, Spread | None]
    growth: tuple[Growth, ...]
    seconds: float

    @property
    def lines(self) -> str:
        """For people."""
        head = f"{self.title}: {self.seeds} seeds, {self.failed} failed, {self.seconds:.0f} s each"
        scores = "   ".join(f"{name} {self.measures[name] or '-'}" for name in (*MEASURES, *LOOKS))
        costs = "\n".join(
            f"  {grown.side:>5} px: {grown.flops / 1e9:6.2f} GFLOPs   {1 / grown.seconds:7.2f} tiles per core second   "
            f"{grown.memory / 1e6:6.0f} MB"
            for grown in self.growth
        )
        return "\n".join(filter(None, (head, f"  {scores}", costs)))


def tabulate(results: Iterable[Result]) -> list[EncodersRow]:
    """A row per configuration, in the order of `CONFIGURATIONS`."""
    found = list(results)
    names = [name for name in CONFIGURATIONS if any(result.configuration == name for result in found)]
    return [_row(name, [result for result in found if result.configuration == name]) for name in names]


def _row(name: str, results: Sequence[Result]) -> EncodersRow:
    trials = [result for result in results if isinstance(result, Trial)]
    whole = [trial for trial in trials if not trial.failed]
    focus = [result for result in results if isinstance(result, Focus)]
    values = {measure: [getattr(trial, measure) for trial in whole] for measure in MEASURES}
    values |= {look: [getattr(one, look) for one in focus] for look in LOOKS}
    return EncodersRow(
        configuration=name,
        title=CONFIGURATIONS[name],
        seeds=len(trials),
        failed=len(trials) - len(whole),
        measures={key: Spread.of([value for value in all_ if value is not None]) for key, all_ in values.items()},
        growth=tuple(result for result in results if isinstance(result, Growth)),
        seconds=round(mean(trial.seconds for trial in trials), 1) if trials else 0.0,
    )
