"""Files beside a mosaic that carry what GIS programs do not read from Zarr.

    masks.classes.vrt  masks.confidence.vrt  masks.instances.vrt    place, nodata, overviews; colours and class names
    masks.classes.qml                                               the legend that QGIS shows for the first

GDAL and QGIS take no colours and no names from Zarr, levels of format 2 as no overviews, and before GDAL 3.13 no
rotated place. All this stands in a VRT, which names the mosaic by a path relative to itself: move them together.
"""

from collections.abc import Iterator
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from pipeline.mosaic.codes import codes
from pipeline.mosaic.mosaic import Mosaic
from pipeline.storage.paths import AnyPath, remove, write_atomically

GDAL_TYPES = {"uint8": "Byte", "uint16": "UInt16", "uint32": "UInt32"}

QML_HEAD = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"

UNLABELLED = "unlabelled", "#ffffff00"
"""Name and colour of pixels where nothing was accepted: transparent, that an image below shows."""

NODATA = "nodata", "#00000000"
UNUSED = "", "#00000000"


def companions(output: AnyPath) -> list[AnyPath]:
    """Where the files of a mosaic lie, whether they are there or not."""
    names = ("classes.vrt", "classes.qml", "confidence.vrt", "instances.vrt")
    return [output.with_suffix(f".{name}") for name in names]


def write_companions(mosaic: Mosaic) -> None:
    """Write the files of a mosaic that is complete."""
    for name in mosaic.names:
        write_atomically(mosaic.path.with_suffix(f".{name}.vrt"), _text(_vrt(mosaic, name)))
    write_atomically(mosaic.path.with_suffix(".classes.qml"), QML_HEAD + _text(_qml(mosaic)))


def remove_companions(output: AnyPath) -> None:
    """Delete the files of a mosaic, where they are."""
    for path in companions(output):
        remove(path)


def _vrt(mosaic: Mosaic, name: str) -> Element:
    rows, cols = mosaic.shape
    root = Element("VRTDataset", rasterXSize=str(cols), rasterYSize=str(rows))
    if mosaic.crs is not None:
        SubElement(root, "SRS").text = mosaic.crs
    if mosaic.transform is not None:
        a, b, c, d, e, f = mosaic.transform
        SubElement(root, "GeoTransform").text = ", ".join(repr(float(value)) for value in (c, a, b, f, d, e))
    root.append(_band(mosaic, name))
    return root


def _band(mosaic: Mosaic, name: str) -> Element:
    array = mosaic.array(name)
    band = Element("VRTRasterBand", dataType=GDAL_TYPES[str(array.dtype)], band="1")
    SubElement(band, "Description").text = str(array.attrs["long_name"])
    SubElement(band, "NoDataValue").text = str(array.attrs["nodata"])
    SubElement(band, "ColorInterp").text = "Palette" if name == "classes" else "Gray"
    if name == "classes":
        _add_legend(band, mosaic)
    _add_source(SubElement(band, "SimpleSource"), mosaic, name, 0)
    for level in range(1, mosaic.levels):
        _add_source(SubElement(band, "Overview"), mosaic, name, level)
    return band


def _add_source(parent: Element, mosaic: Mosaic, name: str, level: int) -> None:
    # The array's folder: GDAL takes `ZARR:"..."` for a path from the working directory, not from the VRT.
    where = f"{mosaic.path.name}/{level}/{name}"
    SubElement(parent, "SourceFilename", relativeToVRT="1").text = where
    SubElement(parent, "SourceBand").text = "1"


def _add_legend(band: Element, mosaic: Mosaic) -> None:
    """Names and colours by place in a list, so that unused values need one too."""
    known = {value: (name, colour) for value, name, colour in _legend(mosaic)} | {mosaic.nodata: NODATA}
    names, colours = SubElement(band, "CategoryNames"), SubElement(band, "ColorTable")
    for value in range(mosaic.nodata + 1):
        name, colour = known.get(value, UNUSED)
        SubElement(names, "Category").text = name
        red, green, blue, alpha = (str(part) for part in bytes.fromhex(colour[1:].ljust(8, "f")))
        SubElement(colours, "Entry", c1=red, c2=green, c3=blue, c4=alpha)


def _qml(mosaic: Mosaic) -> Element:
    root = Element("qgis", styleCategories="Symbology")
    renderer = SubElement(SubElement(root, "pipe"), "rasterrenderer", type="paletted", band="1", opacity="1")
    palette = SubElement(renderer, "colorPalette")
    for value, name, colour in _legend(mosaic):
        alpha = str(int(colour[7:] or "ff", 16))
        SubElement(palette, "paletteEntry", value=str(value), label=name, color=colour[:7], alpha=alpha)
    return root


def _legend(mosaic: Mosaic) -> Iterator[tuple[int, str, str]]:
    """Value, name and `#rrggbb` or `#rrggbbaa` of what may be seen."""
    for value, (name, colour) in enumerate(zip(mosaic.class_names, mosaic.colours, strict=True)):
        yield value, name, colour
    yield codes(len(mosaic.class_names)).unlabelled, *UNLABELLED


def _text(root: Element) -> str:
    indent(root, " ")
    return f"{tostring(root).decode()}\n"  # in ASCII, the rest as character references
