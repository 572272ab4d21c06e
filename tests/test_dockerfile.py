"""The Dockerfile: as its linter reads it, and, with `-m container`, the image that it makes of a plain Debian.

The published image has another base and is used with GPUs; both stay untested here.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = ("buildah", "debootstrap")
OF_THIS_MACHINE = ("/etc/pip.conf", "/etc/xdg/pip", "/etc/ssl/certs/ca-certificates.crt")
"""With these, pip finds in the build what it finds here."""

Buildah = Callable[..., str]


def missing() -> str | None:
    """Why no image can be built here; None where one can."""
    if os.geteuid() != 0:
        return "only root can make a Debian to build on"
    absent = [name for name in TOOLS if not shutil.which(name)]
    return f"{', '.join(absent)} not installed (apt-get install {' '.join(TOOLS)})" if absent else None


def test_the_linter_has_no_complaint() -> None:
    """Not even one of style; what is ignored is ignored in the file, with the reason."""
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.fixture
def buildah(tmp_path: Path) -> Iterator[Buildah]:
    """`buildah(command, ...)`: its output; images and containers lie in the test's folder, and are gone afterwards."""
    places = ("--root", str(tmp_path / "store"), "--runroot", str(tmp_path / "run"))

    def call(*command: object) -> str:
        words = ["buildah", *places, *map(str, command)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout.strip()

    yield call
    call("rm", "--all")
    call("rmi", "--all", "--force")
    # 15 GB; the store leaves a mount of itself.
    subprocess.run(["umount", "--quiet", tmp_path / "store" / "overlay"], check=False)
    shutil.rmtree(tmp_path)


@pytest.mark.container
@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_the_image_runs_the_demo(buildah: Buildah, tmp_path: Path) -> None:
    """As nobody, in the folder for data, started by its own entrypoint, without a GPU and with what it brings along."""
    base, packages = tmp_path / "debian", "--include=python3,python3-venv,ca-certificates"
    subprocess.run(["debootstrap", "--variant=minbase", packages, "bookworm", base], check=True, capture_output=True)
    empty = buildah("from", "scratch")
    buildah("add", empty, base, "/")
    buildah("commit", "--rm", empty, "localhost/debian")
    mounts = [f"--volume={path}:{path}:ro" for path in OF_THIS_MACHINE if Path(path).exists()]
    build = ("bud", "--isolation=chroot", "--pull-never", "--build-arg=BASE=localhost/debian", *mounts)
    buildah(*build, "--tag=localhost/eomt-batch", ROOT)

    image = json.loads(buildah("inspect", "--type=image", "localhost/eomt-batch"))["OCIv1"]["config"]
    assert (image["User"], image["WorkingDir"], image["Cmd"]) == ("10001", "/data", ["--help"])
    started = buildah("from", "--pull-never", "localhost/eomt-batch")
    buildah("run", "--isolation=chroot", started, "--", *image["Entrypoint"], "demo", "--quiet")
    [report] = Path(buildah("mount", started)).glob("data/eomt-batch-demo/masks-*.run/report.html")
    assert report.stat().st_uid == 10001
