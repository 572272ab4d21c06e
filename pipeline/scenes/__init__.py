"""Drawn landscapes: towns, roads, sand, parks and water from above, the same for the same seed, with their truth."""

from pipeline.scenes.canvas import CLASSES
from pipeline.scenes.files import read_samples, write_scene, write_truth
from pipeline.scenes.scene import Scene, draw_scene
from pipeline.scenes.zones import HOMELY, MIXED, Uses

__all__ = ["CLASSES", "HOMELY", "MIXED", "Scene", "Uses", "draw_scene", "read_samples", "write_scene", "write_truth"]
