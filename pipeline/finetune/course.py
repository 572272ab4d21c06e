"""A training from end to end: open, begin or go on, step by step, look now and then, keep the best."""

import logging
import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from eomt_core.errors import ModelError
from eomt_core.training.batch import Batch
from pipeline.errors import InputError, RunError, UsageError
from pipeline.finetune import pictures
from pipeline.finetune.config import FinetuneConfig
from pipeline.finetune.data import Data, open_data
from pipeline.finetune.drawn import drawn_pairs
from pipeline.finetune.folder import Folder
from pipeline.finetune.plan import CoursePlan, Start, choose_plan, choose_sampler, describe_start, progress
from pipeline.finetune.thresholds import choose_thresholds
from pipeline.finetune.validation import validate

if TYPE_CHECKING:
    from eomt_core.training.session import Session

log = logging.getLogger(__name__)

CHECKPOINT_EVERY = 30.0
"""Seconds between two checkpoints: what a kill costs at most."""

LOOKS = 10
"""Validations of a training, where nobody asks for fewer."""

LOOK = (0.8, 0.8, 0.5)
"""Score, overlap and mask threshold of objects in validations; those on the card are chosen when a model is saved."""

RECENT = 50
"""Steps whose mean loss is told."""

FULL = ("out of memory", "not enough memory", "can't allocate memory")
"""What torch says of a device, or a computer, that is full."""


class Pulse(NamedTuple):
    """How far a training is.

    Attributes:
        step: steps that are done.
        progress: 0 to 1.
        loss: mean of the last steps.
        score: of the last validation; None before it.
        seconds: of all calls together.
    """

    step: int
    progress: float
    loss: float
    score: float | None
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What a training came to.

    Attributes:
        output: its folder, which is the model, too.
        steps: how many.
        minutes: of all calls together.
        first_loss: mean of the first steps.
        last_loss: mean of the last steps.
        measure: what the score is: mIoU, or PQ of objects.
        score: the best validation; None without any.
        best_step: when it was.
    """

    output: str
    steps: int
    minutes: float
    first_loss: float
    last_loss: float
    measure: str
    score: float | None
    best_step: int | None


OnPulse = Callable[[Pulse], None]


def finetune(config: FinetuneConfig, on_pulse: OnPulse | None = None, looks: int = LOOKS) -> Outcome:
    """Train a model and leave it, with pictures of its training, in a folder.

    A training that is complete is not touched any more: what it came to is told again.

    Args:
        config: the choices.
        on_pulse: told of every step.
        looks: validations on the way, the last one at the end; 0: none, even where there are scenes for it.

    Raises:
        UsageError: Nothing was started: options, images, labels or model will not do.
        RunError: The training came to no number, or does not fit the device.
    """
    pictures.require()
    folder = Folder(Path(config.output).absolute())
    folder.check_free(config)
    start = describe_start(config)
    with (
        drawn_pairs(config.drawn, config.classes or (start.card.classes if start.card else None)) as drawn,
        closing(open_data(config, start.task, start.card, start.bands, drawn)) as data,
    ):
        plan = _plan(config, start, data)
        folder.check_same(config, plan.settled())
        if config.resume and (complete := _complete(folder)):
            return complete
        course = Course(config, start, plan, data, folder, _session(config, plan), on_pulse or _silent, looks)
        with folder.begun(config, plan.settled()):
            return course.run()


def _plan(config: FinetuneConfig, start: Start, data: Data) -> CoursePlan:
    try:
        return choose_plan(config, start, data)
    except ModelError as error:
        raise UsageError(str(error)) from error


def _complete(folder: Folder) -> Outcome | None:
    """What a training came to, if it is complete."""
    try:
        outcome = Outcome(**{**(folder.report() or {}), "output": str(folder.path)})
    except TypeError:
        return None
    log.warning("%s: is complete; nothing is trained any more", folder.path)
    return outcome


def _session(config: FinetuneConfig, plan: CoursePlan) -> "Session":
    from eomt_core.training.session import Session

    try:
        return Session(plan.beginning, plan.training, config.device, config.threads)
    except ModelError as error:
        raise UsageError(f"--model {str(error).removeprefix('model ')}") from error


class Course:
    """A training under way.

    Args:
        config: the choices.
        start: the model that it begins with.
        plan: what was decided besides.
        data: what it reads.
        folder: where it writes.
        session: the model in training.
        on_pulse: told of every step.
        looks: validations on the way.
    """

    def __init__(
        self,
        config: FinetuneConfig,
        start: Start,
        plan: CoursePlan,
        data: Data,
        folder: Folder,
        session: "Session",
        on_pulse: OnPulse,
        looks: int,
    ) -> None:
        self.config, self.plan, self.data, self.folder = config, plan, data, folder
        self.session, self.on_pulse, self.looks = session, on_pulse, looks
        self.sampler = choose_sampler(config, start, data, session)
        self.tile = (start.tile, start.tile)
        self.elapsed = self.saved = 0.0
        self.losses: list[float] = []
        self.scores: list[tuple[int, float]] = []

    def run(self) -> Outcome:
        """Train to the end. A stop loses what was done since the last checkpoint."""
        if self.folder.checkpoint.exists():
            self._resume()
        with closing(self.sampler.batches(self.session.step)) as batches:
            begun = time.monotonic() - self.elapsed
            while (share := self._progress()) < 1:
                self._step(share, next(batches))
                self.elapsed = time.monotonic() - begun
                self._afterwards()
        return self._finish()

    def _progress(self) -> float:
        return progress(self.config, self.session.step, self.elapsed)

    def _step(self, share: float, batch: Batch) -> None:
        try:
            loss = self.session.advance(batch, share)
        except RuntimeError as error:
            if any(words in str(error) for words in FULL):
                raise RunError(
                    f"{self.folder.path}: the memory is full at {len(batch.pixels)} crops of {batch.pixels.shape[-1]} "
                    "pixels; start afresh with --overwrite and a smaller --batch-size or --tile-size"
                ) from error
            raise
        if not math.isfinite(loss):
            raise RunError(
                f"{self.folder.path}: the loss is {loss} at step {self.session.step}; start afresh with --overwrite "
                "and a lower --lr"
            )
        self.losses.append(loss)

    def _afterwards(self) -> None:
        share = self._progress()
        if self.data.validation and self.looks and share * self.looks >= len(self.scores) + 1:
            self._look()
        if self.elapsed - self.saved > CHECKPOINT_EVERY or share >= 1:
            self._checkpoint()
        score = self.scores[-1][1] if self.scores else None
        self.on_pulse(Pulse(self.session.step, share, _mean(self.losses[-RECENT:]), score, self.elapsed))

    def _look(self) -> None:
        """Validate; the best model so far is saved, with pictures of what it sees."""
        verdict = validate(
            self.data.validation,
            lambda pixels: self.session.label(pixels, LOOK),
            self.tile,
            self.session.lattice,
            len(self.data.classes),
        )
        best = max((score for _, score in self.scores), default=-1.0)
        # Where nothing could be compared nothing was found: no number would be better or worse than another.
        score = verdict.score if math.isfinite(verdict.score) else 0.0
        self.scores.append((self.session.step, score))
        if score > best:
            self._save()
            pictures.draw_verdict(self.folder.path, verdict, self.data.classes)

    def _save(self) -> None:
        card = self.plan.card
        if self.data.training[0].instances:
            chosen = choose_thresholds(self.data.training, self.session.objects, self.tile, self.session.lattice)
            card = replace(card, score_threshold=chosen[0], overlap_threshold=chosen[1], mask_threshold=chosen[2])
        try:
            self.session.save(self.folder.path, card, half=self.config.half)
        except ModelError as error:
            raise RunError(f"{self.folder.path}: {error}") from error

    def _checkpoint(self) -> None:
        """Write the state, then what led to it: the log may never be ahead of what a resumed training knows."""
        more = {"elapsed": self.elapsed, "losses": self.losses, "scores": self.scores}
        self.session.write_state(self.folder.checkpoint, more)
        self.folder.log(self.losses, self.scores)
        self.saved = self.elapsed

    def _resume(self) -> None:
        try:
            state = self.session.read_state(self.folder.checkpoint)
        except ModelError as error:
            raise InputError(str(error)) from error
        self.elapsed = self.saved = state["elapsed"]
        self.losses, self.scores = state["losses"], [(step, score) for step, score in state["scores"]]

    def _finish(self) -> Outcome:
        if not self.scores:
            self._save()
        pictures.draw_course(self.folder.path, self.losses, self.scores, self._measure)
        best = max(self.scores, key=lambda look: look[1]) if self.scores else (None, None)
        outcome = Outcome(
            output=str(self.folder.path),
            steps=self.session.step,
            minutes=round(self.elapsed / 60, 2),
            first_loss=round(_mean(self.losses[:RECENT]), 4),
            last_loss=round(_mean(self.losses[-RECENT:]), 4),
            measure=self._measure,
            score=best[1],
            best_step=best[0],
        )
        self.folder.note("report.json", asdict(outcome))
        return outcome

    @property
    def _measure(self) -> str:
        return "PQ" if self.data.training[0].instances else "mIoU"


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _silent(pulse: Pulse) -> None:
    """No one asked."""
