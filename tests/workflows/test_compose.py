"""The recipe for Docker Compose: valid, closed, and what its services would start makes what one process makes."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline import open_mosaic

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "workflows" / "recipes" / "compose"
COMPOSE = yaml.safe_load((RECIPE / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
ENTRYPOINT = ["tini", "--", "eomt-batch"]
EVERY = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)


def test_the_image_starts_what_the_driver_wants() -> None:
    """It names no entrypoint of its own."""
    assert f"ENTRYPOINT {ENTRYPOINT}".replace("'", '"') in (ROOT / "Dockerfile").read_text()
    assert "entrypoint" not in SERVICES["driver"]


@EVERY
def test_a_service_is_nobody_and_may_do_nothing(service) -> None:
    """The user is that of the image, or the one who asks; nothing but its data and /tmp can be written."""
    nobody = re.findall(r"^USER (\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[-1]
    assert service["user"] == f"${{EOMT_USER:-{nobody}:{nobody}}}"
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["tmpfs"] == ["/tmp"]
    assert not {"privileged", "cap_add", "devices", "pid", "network_mode"} & service.keys()
    assert all(volume.endswith(":/data") for volume in service.get("volumes", ()))


@EVERY
def test_no_port_is_published(service) -> None:
    """Whoever reaches the scheduler's can run code; the network has no way out."""
    assert "ports" not in service
    assert service["networks"] == ["cluster"]
    assert COMPOSE["networks"] == {"cluster": {"internal": True}}


def test_each_worker_has_a_gpu_of_its_own() -> None:
    """`count: 1` would give all of them the first."""
    more = yaml.safe_load((RECIPE / "gpu.yaml").read_text())["services"]
    assert set(more) == {name for name in SERVICES if name.startswith("worker")}
    devices = [service["deploy"]["resources"]["reservations"]["devices"] for service in more.values()]
    assert [device["device_ids"] for (device,) in devices] == [[str(number)] for number in range(len(more))]
    assert all(device["capabilities"] == ["gpu"] and device["driver"] == "nvidia" for (device,) in devices)


def command_of(name: str, place: str, variables: dict[str, str]) -> list[str]:
    """What a service starts, with this process's programs on loopback, and variables as Compose fills them in."""
    service, programs = SERVICES[name], Path(sys.executable).parent

    def value(found: re.Match[str]) -> str:
        return variables.get(found[1]) or found[2]

    _, _, program, *rest = service.get("entrypoint", ENTRYPOINT) + service["command"]
    filled = (re.sub(r"\$\{(\w+):[-?](.*?)\}", value, word) for word in rest)
    host, _, port = place.partition(":")
    there = {"scheduler:8786": place, "--host=0.0.0.0": f"--host={host}", "--port=8786": f"--port={port}"}
    words = [next((word.replace(old, new) for old, new in there.items() if old in word), word) for word in filled]
    return [str(programs / program), *words]


@pytest.fixture
def place() -> str:
    """Where a scheduler may listen."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.slow
def test_its_services_make_what_one_process_makes(place, raster, model, tmp_path: Path, command) -> None:
    """The very command lines, in an order that no dependency helps: workers first."""
    options = ("--tile-size", "64", "--overlap", "16", "--tile-block", "1", "--chunk", "64", "--device", "cpu")
    variables = {"INPUT": str(raster), "OUT": str(tmp_path / "masks.zarr"), "MODEL": str(model)}
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    started = []
    try:
        for name in sorted(SERVICES.keys() - {"driver"}, reverse=True):
            words = command_of(name, place, variables)
            started.append(subprocess.Popen(words, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL))
        driver = [*command_of("driver", place, variables), *options]
        done = subprocess.run(driver, env=environment, capture_output=True, text=True, check=False, timeout=180)
    finally:
        for process in started:
            process.terminate()
        assert all(process.wait(30) is not None for process in started)
    assert done.returncode == 0, done.stderr

    assert command("run", raster, "-m", model, "-o", tmp_path / "alone.zarr", *options).exit_code == 0
    mosaic, alone = open_mosaic(tmp_path / "masks.zarr"), open_mosaic(tmp_path / "alone.zarr")
    for name in ("classes", "confidence"):
        np.testing.assert_array_equal(getattr(mosaic, name)[:], getattr(alone, name)[:])
