"""Open a raster as QGIS does: `python3 tests/light/read_qgis.py FILE [PICTURE.png]`, with Debian's python3-qgis.

It needs nothing of this package and no screen. It prints what QGIS makes of the file as one JSON object, and draws the
layer's middle, a pixel a pixel, over magenta, which shows what is transparent.
"""

import json
import os
import sys

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from qgis.core import (
    QgsApplication,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsPalettedRasterRenderer,
    QgsRasterLayer,
    QgsRectangle,
)
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor

SIDE = 400


def facts(layer: QgsRasterLayer) -> dict:
    """What QGIS says of a layer, and the legend that it shows."""
    box, renderer = layer.extent(), layer.renderer()
    paletted = isinstance(renderer, QgsPalettedRasterRenderer)
    return {
        "valid": layer.isValid(),
        "crs": layer.crs().authid(),
        "bounds": [box.xMinimum(), box.yMinimum(), box.xMaximum(), box.yMaximum()],
        "size": [layer.height(), layer.width()],
        "nodata": layer.dataProvider().sourceNoDataValue(1),
        "renderer": renderer.type(),
        "legend": [[entry.value, entry.label, entry.color.name()] for entry in renderer.classes()] if paletted else [],
    }


def draw(layer: QgsRasterLayer, path: str) -> None:
    """A picture of the middle of a layer."""
    settings, middle = QgsMapSettings(), layer.extent().center()
    side = SIDE * layer.rasterUnitsPerPixelX()
    settings.setLayers([layer])
    settings.setDestinationCrs(layer.crs())
    settings.setOutputSize(QSize(SIDE, SIDE))
    settings.setBackgroundColor(QColor("magenta"))
    settings.setExtent(QgsRectangle.fromCenterAndSize(middle, side, side))
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    job.renderedImage().save(path)


if __name__ == "__main__":
    application = QgsApplication([], False)
    application.initQgis()
    opened = QgsRasterLayer(sys.argv[1], "layer")
    print(json.dumps(facts(opened)))
    if len(sys.argv) > 2:
        draw(opened, sys.argv[2])
    # Qt and Python disagree about who deletes what at exit.
    sys.stdout.flush()
    os._exit(0)
