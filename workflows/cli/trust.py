"""A word about schedulers that others could reach, since whoever does may run anything on their workers."""

import ipaddress
import json
from pathlib import Path
from typing import TYPE_CHECKING

from workflows.cli.progress import Console

if TYPE_CHECKING:
    from pipeline.config import RunConfig

ENCRYPTED = ("tls", "wss", "inproc")
HERE = ("localhost", "")


def warn_of_scheduler(config: "RunConfig", console: Console) -> None:
    """Say so where the scheduler is on a network and its address asks for no encryption."""
    address = config.scheduler or _written(config.scheduler_file) or ""
    scheme, _, place = address.rpartition("://")
    if scheme not in ENCRYPTED and not _is_here(place):
        console.say(
            f"eomt-batch: warning: --scheduler {address} is unencrypted: whoever can reach it can run code on its "
            "workers, and it on this machine; give only addresses that you trust, or tls://",
            "warning",
            "warning",
        )


def _written(file: str | None) -> str | None:
    """The address in a scheduler's file, if it is there already."""
    try:
        return str(json.loads(Path(file).read_text())["address"]) if file else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_here(place: str) -> bool:
    host = place.rpartition(":")[0].strip("[]") if not place.endswith("]") else place.strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in HERE
