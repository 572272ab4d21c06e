"""What a command says on stderr while it works: words, events, and how far it is."""

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import click

from pipeline.addresses import redacted

if TYPE_CHECKING:
    from pipeline.report import Progress

EVERY = 30.0
"""Seconds between two lines where no terminal shows a bar."""

MEGA = 1e6

SHOWN = 10
"""Blocks that a line names; --json names all."""


@dataclass
class Console:
    """Where words go: stderr, as lines or as JSON objects.

    Attributes:
        verbose: Show tracebacks.
        quiet: Say errors only.
        log_json: One JSON object per line.
    """

    verbose: bool = False
    quiet: bool = False
    log_json: bool = False

    def say(self, text: str, event: str = "note", level: str = "info", **fields: Any) -> None:
        """Say a line, or log it as an event with fields."""
        if not self.quiet:
            self._write(text, {"level": level, "event": event, **fields})

    def error(self, text: str, code: int) -> None:
        """Say why a command fails, however quiet it is."""
        self._write(text, {"level": "error", "event": "error", "exit_code": code})

    def _write(self, text: str, fields: dict[str, Any]) -> None:
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
        said = json.dumps({"ts": stamp, **fields, "message": text}) if self.log_json else text
        click.echo(redacted(said), err=True)

    @contextmanager
    def hears_logs(self) -> Iterator[None]:
        """Say what the packages below log as warnings."""
        handler = _Relay(self)
        loggers = [logging.getLogger(name) for name in ("eomt_core", "pipeline")]
        for logger in loggers:
            logger.addHandler(handler)
        try:
            yield
        finally:
            for logger in loggers:
                logger.removeHandler(handler)


class _Relay(logging.Handler):
    """From the packages' loggers to the console."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Say a record."""
        self.console.say(f"eomt-batch: {record.getMessage()}", "log", record.levelname.lower())


def some(names: Collection[str]) -> str:
    """The first of some names."""
    return ", ".join(islice(names, SHOWN)) + (", ..." if len(names) > SHOWN else "")


class Pace(NamedTuple):
    """How fast a step is: megapixels per second of what this run did itself, and seconds to its end."""

    rate: float | None
    eta: float | None

    @classmethod
    def of(cls, progress: "Progress", seconds: float) -> Self:
        """The pace after some seconds in the step; blocks of earlier runs took none of them."""
        if not progress.fresh or seconds <= 0:
            return cls(None, None)
        rate = progress.fresh / MEGA / seconds
        return cls(rate, (progress.total - progress.done) / MEGA / rate)


class Face(Protocol):
    """One way of showing progress."""

    def show(self, progress: "Progress", seconds: float) -> None:
        """Show how far a step is, some seconds after it began."""

    def tick(self, progress: "Progress", seconds: float) -> None:
        """Time has passed, and no block was finished."""

    def close(self) -> None:
        """Leave the screen in order."""


class Bar:
    """A bar on a terminal."""

    def __init__(self) -> None:
        self._bar: Any = None

    def show(self, progress: "Progress", seconds: float) -> None:
        """Begin a bar with the step, then move it."""
        if progress.block is None or self._bar is None:
            self.close()
            self._bar = self._new(progress)
        self._bar.update(progress.done / MEGA - self._bar.n)

    def tick(self, progress: "Progress", seconds: float) -> None:
        """Let the clock go on."""
        if self._bar is not None:
            self._bar.refresh()

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _new(self, progress: "Progress") -> Any:
        from tqdm import tqdm

        return tqdm(
            desc=progress.step,
            total=progress.total / MEGA,
            # What earlier runs did counts as done, but not for the rate, which is the mean over the step.
            initial=(progress.done - progress.fresh) / MEGA,
            smoothing=0,
            unit=" Mpx",
            dynamic_ncols=True,
            bar_format="{desc}: {percentage:3.0f}% |{bar}| {n:.1f}/{total:.1f} Mpx, {rate_noinv_fmt}, {remaining} left",
        )


class Lines:
    """A line at a step's beginning and end, and every 30 seconds in between."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = 0.0

    def show(self, progress: "Progress", seconds: float) -> None:
        """Say a line, if it is time."""
        if progress.block is None or progress.done >= progress.total or seconds - self._last >= EVERY:
            self._last = 0.0 if progress.block is None else seconds
            self._console.say(line(progress, Pace.of(progress, seconds)))

    def tick(self, progress: "Progress", seconds: float) -> None:
        """Say a line, if it is time: a block may take longer than that."""
        if seconds - self._last >= EVERY:
            self._last = seconds
            self._console.say(line(progress, Pace.of(progress, seconds)))

    def close(self) -> None:
        """Nothing is open."""


class Events:
    """A JSON object per block."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def show(self, progress: "Progress", seconds: float) -> None:
        """Log a block, or the beginning of a step."""
        pace = Pace.of(progress, seconds)
        self._console.say(
            line(progress, pace),
            "step" if progress.block is None else "block",
            step=progress.step,
            block=progress.block,
            done_mpx=progress.done / MEGA,
            total_mpx=progress.total / MEGA,
            mpx_s=pace.rate and round(pace.rate, 4),
            eta_s=pace.eta and round(pace.eta, 1),
        )

    def tick(self, progress: "Progress", seconds: float) -> None:
        """Nothing has happened that is an event."""

    def close(self) -> None:
        """Nothing is open."""


def line(progress: "Progress", pace: Pace) -> str:
    """How far a step is, in words."""
    percent = 100 * progress.done / max(1, progress.total)
    text = f"{progress.step}: {percent:.0f} %, {progress.done / MEGA:.1f} of {progress.total / MEGA:.1f} Mpx"
    if pace.rate is None or pace.eta is None:
        return text
    minutes, seconds = divmod(round(pace.eta), 60)
    return f"{text}, {pace.rate:.2f} Mpx/s, {minutes}:{seconds:02d} left"


class Meter:
    """Shows the progress of a run in the way that suits the place; use it in `with`.

    Args:
        console: Where the words go.
        clock: Seconds.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._faces: list[Face] = [] if console.quiet else [_face(console)]
        self._clock = clock
        self._start = clock()
        self._last: Progress | None = None
        self._over = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._tick, name="progress", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        for face in self._faces:
            face.close()

    def __call__(self, progress: "Progress") -> None:
        """Hear of a block."""
        if progress.block is None:
            self._start = self._clock()
        self._last = progress
        for face in self._faces:
            face.show(progress, self._clock() - self._start)

    def _tick(self) -> None:
        """Move the clock every second, also while a block takes its time."""
        while not self._over.wait(1):
            if self._last is not None:
                for face in self._faces:
                    face.tick(self._last, self._clock() - self._start)


def _face(console: Console) -> Face:
    if console.log_json:
        return Events(console)
    return Bar() if on_terminal() else Lines(console)


def on_terminal() -> bool:
    """Whether stderr is a terminal with room for a bar; some, without a screen, have no columns or rows."""
    return sys.stderr.isatty() and min(os.get_terminal_size(sys.stderr.fileno())) > 0
