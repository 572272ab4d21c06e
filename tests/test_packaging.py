"""What is installed: three packages under names that are nobody else's, and all that they need to work."""

import contextlib
import importlib
import json
import tarfile
import zipfile
from email import message_from_bytes
from email.message import Message
from importlib.metadata import Distribution, PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

import pytest
from hatchling.build import build_sdist, build_wheel

ROOT = Path(__file__).parents[1]
NAME = "eomt-batch"
PACKAGES = ("eomt_core", "pipeline", "workflows")
PUBLIC = {
    "eomt_core": {"EoMT", "ModelError", "QueryMasks", "SpatialEoMT", "describe_model", "load_model", "save_model"},
    "pipeline": {"EomtBatchError", "Report", "RunConfig", "open_mosaic", "segment_raster", "stitch_raster"},
}


def contents(package: Path) -> dict[str, bytes]:
    """The files of a package by their path beside it, without what Python makes of them."""
    files = (path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(package.parent).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> dict[str, bytes]:
    """The files of the wheel, made by the hook that `pip install .` calls."""
    folder = tmp_path_factory.mktemp("wheel")
    with contextlib.chdir(ROOT):
        name = build_wheel(str(folder))
    with zipfile.ZipFile(folder / name) as archive:
        return {member: archive.read(member) for member in archive.namelist()}


@pytest.fixture(scope="module")
def metadata(wheel) -> Message:
    """What the wheel says of itself."""
    return message_from_bytes(next(text for name, text in wheel.items() if name.endswith(".dist-info/METADATA")))


@pytest.fixture
def installed() -> Distribution:
    """The installed distribution."""
    try:
        return distribution(NAME)
    except PackageNotFoundError:
        pytest.skip(f"{NAME} is not installed in this environment: pip install '.[test]'")


def test_the_wheel_holds_the_three_packages_and_nothing_else(wheel, metadata):
    """No tests, no tools, no stray top-level name."""
    assert {name.split("/")[0] for name in wheel} == {*PACKAGES, f"eomt_batch-{metadata['Version']}.dist-info"}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_wheel_holds_every_file_of_a_package(wheel, package):
    """Data files travel with the modules that read them."""
    packed = {name: data for name, data in wheel.items() if name.startswith(f"{package}/")}
    assert packed == contents(ROOT / package)


def test_the_label_tables_are_in_the_wheel(wheel):
    """Without them a published model has classes without names."""
    tables = {Path(name).stem: json.loads(data) for name, data in wheel.items() if name.endswith(".json")}
    assert {"ade20k", "cityscapes", "coco_instance", "coco_panoptic"} <= tables.keys()


def test_an_index_would_refuse_the_wheel(metadata):
    """Names as general as `pipeline` stay within an environment of their own."""
    assert "Private :: Do Not Upload" in metadata.get_all("Classifier")


def test_the_wheel_carries_its_licence(wheel, metadata):
    """Its short name, and its text as it stands in the checkout."""
    assert metadata["License-Expression"] == "Apache-2.0"
    assert (ROOT / "LICENSE").read_bytes() in [data for name, data in wheel.items() if name.endswith("/LICENSE")]


def test_the_command_is_the_shells_main(wheel):
    """The script in the wheel names a function that is there."""
    scripts = next(data.decode() for name, data in wheel.items() if name.endswith("/entry_points.txt"))
    assert scripts.split("\n")[:2] == ["[console_scripts]", "eomt-batch = workflows.cli:main"]
    assert callable(importlib.import_module("workflows.cli").main)


def test_the_source_archive_can_be_built_and_tested(tmp_path):
    """It holds the packages, their tests and what the build reads, and nothing else at its top."""
    with contextlib.chdir(ROOT):
        name = build_sdist(str(tmp_path))
    with tarfile.open(tmp_path / name) as archive:
        top = {member.split("/")[1] for member in archive.getnames()}
    files = {"pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "Dockerfile", ".gitignore", "PKG-INFO"}
    assert top == {*PACKAGES, "tests", "docs", *files}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_has_no_other_owner(installed, package):
    """Another distribution with the same name would have overwritten ours without a word, or will."""
    origin = json.loads(installed.read_text("direct_url.json") or "{}")
    # An editable install lists the path to the packages, not the packages.
    ours = set() if origin.get("dir_info", {}).get("editable") else {NAME}
    assert set(packages_distributions().get(package, [])) == ours


@pytest.mark.parametrize("package", PACKAGES)
def test_what_is_tested_is_this_checkout(package):
    """`pytest` tests the installed packages; if this fails they are of another state: pip install '.[test]' again."""
    imported = Path(importlib.import_module(package).__path__[0])
    assert contents(imported) == contents(ROOT / package)


@pytest.mark.parametrize("package", PUBLIC)
def test_the_public_names_are_these(package):
    """The front door changes only together with this list, and every name on it opens."""
    module = importlib.import_module(package)
    assert set(module.__all__) == PUBLIC[package]
    assert all(getattr(module, name).__name__ == name for name in module.__all__)


@pytest.mark.parametrize("package", PUBLIC)
def test_other_names_are_no_attributes(package):
    """A lazy front door says no as any module does."""
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'EoMTs'"):
        importlib.import_module(package).EoMTs  # noqa: B018
