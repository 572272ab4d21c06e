"""How good a mosaic is: classes pixel by pixel, instances object by object, and whether its tiles show."""

from pipeline.evaluate.confusion import ClassScores, Confusion, StrayLabel
from pipeline.evaluate.evaluation import Evaluation, evaluate_mosaic
from pipeline.evaluate.instances import Contingency, Detections, PanopticScores, Quality, average

__all__ = [
    "ClassScores",
    "Confusion",
    "Contingency",
    "Detections",
    "Evaluation",
    "PanopticScores",
    "Quality",
    "StrayLabel",
    "average",
    "evaluate_mosaic",
]
