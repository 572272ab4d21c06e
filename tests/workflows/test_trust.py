"""A scheduler on a network is a matter of trust, and said to be."""

import json
from pathlib import Path

import pytest

from pipeline import RunConfig
from workflows.cli.progress import Console
from workflows.cli.trust import warn_of_scheduler


@pytest.mark.parametrize(
    "address", ["tcp://10.0.0.1:8786", "10.0.0.1:8786", "ws://cluster:80", "tcp://[2001:db8::1]:9"]
)
def test_an_address_on_a_network_gets_one_line(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With the address, the danger and the remedy."""
    warn_of_scheduler(RunConfig(scheduler=address), Console())
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"eomt-batch: warning: --scheduler {address} is unencrypted")
    assert line.endswith("give only addresses that you trust, or tls://")


@pytest.mark.parametrize(
    "address", ["tls://10.0.0.1:8786", "tcp://127.0.0.1:8786", "localhost:8786", "tcp://[::1]:9", "inproc://1.2.3.4/5"]
)
def test_encryption_and_loopback_get_none(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor does a run without a scheduler."""
    warn_of_scheduler(RunConfig(scheduler=address), Console())
    warn_of_scheduler(RunConfig(), Console())
    assert capsys.readouterr().err == ""


def test_the_address_in_a_file_counts_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file without one says nothing yet."""
    file = tmp_path / "scheduler.json"
    for content in ("", json.dumps({"address": "tcp://10.0.0.1:8786"})):
        file.write_text(content)
        warn_of_scheduler(RunConfig(scheduler_file=str(file)), Console())
    (line,) = capsys.readouterr().err.splitlines()
    assert "tcp://10.0.0.1:8786 is unencrypted" in line
