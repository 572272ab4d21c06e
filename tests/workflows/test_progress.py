"""What is said on the way, and at which pace."""

import fcntl
import io
import json
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

from pipeline.report import Progress
from workflows.cli.progress import Bar, Console, Lines, Meter, Pace, line


def at(done: int, fresh: int, block: str | None = "0-0", total: int = 100) -> Progress:
    """A point of the way, in megapixels."""
    return Progress("infer", done * 10**6, total * 10**6, fresh * 10**6, block)


def test_the_pace_leaves_out_what_earlier_runs_did() -> None:
    """40 of 60 done pixels were there before: 20 Mpx in 10 s, 40 to go."""
    assert Pace.of(at(60, 20), seconds=10) == (2.0, 20.0)


def test_there_is_no_pace_before_the_first_block() -> None:
    """Nothing is made up at the start."""
    assert Pace.of(at(40, 0, None), seconds=3) == (None, None)


def test_a_line_tells_share_rate_and_rest() -> None:
    """In that order."""
    assert line(at(60, 20), Pace(2.0, 80.4)) == "infer: 60 %, 60.0 of 100.0 Mpx, 2.00 Mpx/s, 1:20 left"


def test_lines_come_at_start_and_end_and_each_half_minute(capsys: pytest.CaptureFixture[str]) -> None:
    """Blocks in between are silent."""
    lines = Lines(Console())
    for done, seconds in ((0, 0), (10, 10), (20, 29), (30, 31), (40, 60), (50, 61), (100, 62)):
        lines.show(at(done, done, "0-0" if done else None), seconds)
    assert [text.split()[1] for text in capsys.readouterr().err.splitlines()] == ["0", "30", "50", "100"]


def test_a_meter_counts_from_the_start_of_each_step(capsys: pytest.CaptureFixture[str]) -> None:
    """The second step's pace knows nothing of the first's seconds."""
    clock = iter([0, 5, 5, 15, 100, 100, 104])
    with Meter(Console(), lambda: next(clock)) as meter:
        for progress in (at(0, 0, None), at(100, 100), at(0, 0, None), at(100, 100)):
            meter(progress)
    rates = [text.split(", ")[2] for text in capsys.readouterr().err.splitlines() if "Mpx/s" in text]
    assert rates == ["10.00 Mpx/s", "25.00 Mpx/s"]


def test_a_bar_stands_at_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """Earlier runs' pixels count for the bar and not for the rate."""
    screen = io.StringIO()
    monkeypatch.setattr("sys.stderr", screen)
    bar = Bar()
    for progress in (at(40, 0, None), at(60, 20), at(100, 60)):
        bar.show(progress, 1.0)
    bar.close()
    assert "40%" in screen.getvalue().split("\r")[1]
    assert "100%" in screen.getvalue().split("\r")[-1]
    assert "100.0/100.0 Mpx" in screen.getvalue()


def test_a_quiet_console_says_errors_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """And shows no progress."""
    console = Console(quiet=True)
    console.say("hello")
    with Meter(console) as meter:
        meter(at(0, 0, None))
    console.error("broken", 1)
    assert capsys.readouterr().err == "broken\n"


def test_events_are_objects_with_time_and_level(capsys: pytest.CaptureFixture[str]) -> None:
    """One per line, with the figures of the block."""
    with Meter(Console(log_json=True), iter([0.0, 0.0, 0.0, 10.0]).__next__) as meter:
        meter(at(40, 0, None))
        meter(at(60, 20, "1-2"))
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["event"], first["mpx_s"], second["event"], second["block"]) == ("step", None, "block", "1-2")
    assert (second["mpx_s"], second["eta_s"], second["level"]) == (2.0, 20.0, "info")
    assert second["ts"].endswith("+00:00")


def test_a_bar_is_drawn_on_a_terminal_alone() -> None:
    """On one that is wide enough; a log file gets lines."""
    code = (
        "import sys\nfrom pipeline.report import Progress\nfrom workflows.cli.progress import Console, Meter\n"
        "with Meter(Console()) as meter:\n"
        "    for done in (0, 50, 100): meter(Progress('infer', done, 100, done, 'b' if done else None))"
    )
    assert on_terminal(code, columns=100).count("|") >= 2
    assert "infer: 100 %" in on_terminal(code, columns=0)


def on_terminal(code: str, columns: int) -> str:
    """What a program shows on a pseudo-terminal of some width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    subprocess.run([sys.executable, "-c", code], stderr=theirs, check=True)
    os.close(theirs)
    shown = os.read(ours, 2**16).decode()
    os.close(ours)
    return shown


def test_a_block_that_takes_minutes_is_no_silence(capsys: pytest.CaptureFixture[str]) -> None:
    """The last line is said again every half minute, with the time going on."""
    lines = Lines(Console())
    lines.show(at(0, 0, None), 0)
    lines.show(at(10, 10), 5)
    for second in range(6, 70):
        lines.tick(at(10, 10), second)
    said = capsys.readouterr().err.splitlines()
    assert [text.partition(",")[0] for text in said] == ["infer: 0 %", "infer: 10 %", "infer: 10 %"]
