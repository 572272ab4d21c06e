"""What a tile costs as it grows: each size in a process of its own, whose peak is that of the forward."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from eomt_core.describe import describe_model

FORWARD = "import sys; from pipeline.bench.encoders.growth import print_cost; print_cost(*sys.argv[1:])"
REPEATS = 3
"""Forwards that are timed, of which the fastest counts."""

SMALLEST = 2
"""Lattice steps a side of the tile that is run first, so that what torch loads at its first forward is not counted."""


@dataclass(frozen=True)
class Growth:
    """What one tile of a size takes.

    Attributes:
        configuration: what stands behind `new:`.
        side: pixels of the tile.
        flops: of its forward, 2 per multiplication and addition.
        seconds: of a core, on one thread, from bytes to class scores; what others do on the machine counts little.
        memory: bytes at the peak of the forward, beyond the loaded model.
    """

    configuration: str
    side: int
    flops: int
    seconds: float
    memory: int


def measure_growth(name: str, model: Path, side: int) -> Growth:
    """Run one tile of a model.

    Raises:
        subprocess.CalledProcessError: the tile does not go through.
    """
    from eomt_core.cost import flops_of
    from eomt_core.family import FamilyArchitecture

    architecture = describe_model(model).architecture
    assert isinstance(architecture, FamilyArchitecture)
    seconds, memory = cost_of_forward(model, side)
    return Growth(name, side, flops_of(architecture, (side, side)), seconds, memory)


def cost_of_forward(model: Path, side: int, repeats: int = REPEATS) -> tuple[float, int]:
    """Seconds and bytes that one tile takes, in a process of its own.

    Raises:
        subprocess.CalledProcessError: the tile does not go through.
    """
    command = [sys.executable, "-c", FORWARD, str(model), str(side), str(repeats)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    seconds, memory = json.loads(done.stdout.splitlines()[-1])
    return seconds, memory


def print_cost(model: str, side: str, repeats: str) -> None:
    """Measure in this process, and print seconds and bytes."""
    from eomt_core.predict import load_predictor

    shape = describe_model(model).architecture
    bands = shape.in_channels
    predictor = load_predictor(
        model,
        None,
        device="cpu",
        precision="fp32",
        scaling=((0.0,) * bands, (255.0,) * bands),
        batch_size=1,
        threads=1,
        tta="none",
    )
    pixels = np.random.default_rng(0).integers(0, 255, (1, bands, int(side), int(side)), dtype=np.uint8)
    small = SMALLEST * shape.min_multiple
    predictor.scores(pixels[..., :small, :small])
    before, taken = psutil.Process().memory_info().rss, []
    for _ in range(int(repeats)):
        began = time.process_time()
        predictor.scores(pixels)
        taken.append(time.process_time() - began)
    print(json.dumps([round(min(taken), 4), max(0, _peak() - before)]))


def _peak() -> int:
    """Most resident bytes of this process, by the kernel's own count; `getrusage` would add those of its parent."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
