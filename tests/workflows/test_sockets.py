"""While a command works, nothing of it can be reached from another machine."""

import subprocess
import sys
import time
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from socket import SOCK_DGRAM

import psutil
import pytest
from small_training import write_pairs

RUN = ["--chunk", "64", "--tile-block", "1"]
TRAINING = [*("--model", "new:hybrid-tiny", "--classes", "land,road", "--steps", "2", "--batch-size", "1")]
BENCH = ["bench", "resolve", "--segments", "900"]


def opened(words: list[object]) -> set[tuple[str, bool]]:
    """Addresses at which a command and its children could be reached while it worked, and whether by datagrams."""
    command = [sys.executable, "-c", "from workflows.cli import main; main()", *map(str, words)]
    found = set()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            found |= sockets(psutil.Process(process.pid))
            time.sleep(0.05)  # asking takes longer than the command has to spare
        assert process.stderr is not None
        assert process.returncode == 0, process.stderr.read()
    return found


def sockets(process: psutil.Process) -> set[tuple[str, bool]]:
    """The sockets of a process and its children that take something from others."""
    found = set()
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        for one in (process, *process.children(recursive=True)):
            found |= {
                (socket.laddr.ip, socket.type == SOCK_DGRAM)
                for socket in one.net_connections("inet")
                if socket.laddr and (socket.type == SOCK_DGRAM or socket.status == psutil.CONN_LISTEN)
            }
    return found


def reachable(found: set[tuple[str, bool]]) -> set[tuple[str, bool]]:
    """Those that are not on loopback, and all that take datagrams, of which there is no need."""
    return {(address, datagrams) for address, datagrams in found if datagrams or not ip_address(address).is_loopback}


def test_a_socket_on_all_interfaces_would_be_found() -> None:
    """By the same eyes."""
    code = "import socket, sys\none, two = socket.create_server(('', 0)), socket.socket(type=socket.SOCK_DGRAM)"
    code += "\ntwo.bind(('', 0)); print(flush=True); sys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert reachable(sockets(psutil.Process(process.pid))) == {("0.0.0.0", False), ("0.0.0.0", True)}
        process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_listens_on_loopback_alone(workers: int, raster: Path, model: Path, tmp_path: Path) -> None:
    """Dask's own default is all interfaces, for its dashboard even of workers on loopback."""
    found = opened(["run", raster, "-m", model, "-o", tmp_path / "o.zarr", "--workers", workers, *RUN])
    assert found
    assert not reachable(found)


@pytest.mark.slow
def test_training_opens_nothing(tmp_path: Path) -> None:
    """Nor is there a rendezvous of several processes."""
    write_pairs(tmp_path)
    assert not opened(["finetune", tmp_path / "images", tmp_path / "labels", "-o", tmp_path / "model", *TRAINING])


@pytest.mark.slow
def test_benches_of_joining_open_nothing() -> None:
    """Whatever they draw and measure."""
    assert not opened(BENCH)
