"""Whole aerial scenes from the parts of the real data, as the data's own script joins them."""

from collections.abc import Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType


def scene_maker(data_dir: Path) -> ModuleType:
    """The data's own script."""
    spec = spec_from_file_location("make_scenes", data_dir / "make_scenes.py")
    assert spec is not None
    assert spec.loader is not None
    scenes = module_from_spec(spec)
    spec.loader.exec_module(scenes)
    return scenes


def write_image(data_dir: Path, number: int, path: Path) -> Path:
    """Write the pixels of a scene: red, green, blue, without a georeference."""
    scenes = scene_maker(data_dir)
    scenes.write(path, scenes.grid(number, "images", "jpg"))
    return path


def write_scenes(data_dir: Path, folder: Path, numbers: Sequence[int]) -> list[tuple[Path, Path]]:
    """Write `tileN_rgb.tif` and `tileN_labels.tif` of some scenes."""
    scenes, found = scene_maker(data_dir), []
    for number in numbers:
        labels = folder / f"tile{number}_labels.tif"
        scenes.write(labels, scenes.class_index(scenes.grid(number, "masks", "png"))[None], nodata=255)
        found.append((write_image(data_dir, number, folder / f"tile{number}_rgb.tif"), labels))
    return found
