"""VRTs: text files that make GDAL open other files. What GDAL gets is written here, from what was checked here.

GDAL takes any case for names, takes attributes for elements, and opens what it is told: a raw band reads any file of
the machine as pixels, a URL makes requests. So nothing is searched for that is bad; what is known to be harmless is
let through, and the text that GDAL gets is serialised anew, so that there is no second way of parsing it.
"""

from pathlib import Path
from xml.etree import ElementTree

from pipeline.errors import InputError

MOST_BYTES = 64 * 2**20
"""A VRT of a hundred thousand sources has less."""

_RECT = frozenset({"xOff", "yOff", "xSize", "ySize"})
_SOURCE = frozenset({"name", "resampling"})
_PLAIN = """
GeoTransform BlockXSize BlockYSize Description UnitType Offset Scale CategoryNames Category ColorInterp NoDataValue
HideNoDataValue ColorTable MaskBand SourceBand NODATA ScaleOffset ScaleRatio LUT UseMaskBand ColorTableComponent
Exponent SrcMin SrcMax DstMin DstMax Clamp
"""
ALLOWED: dict[str, frozenset[str]] = dict.fromkeys(_PLAIN.split(), frozenset[str]()) | {
    "VRTDataset": frozenset({"rasterXSize", "rasterYSize"}),
    "VRTRasterBand": frozenset({"dataType", "band", "blockXSize", "blockYSize"}),
    "SRS": frozenset({"dataAxisToSRSAxisMapping", "coordinateEpoch"}),
    "GCPList": frozenset({"Projection", "dataAxisToSRSAxisMapping"}),
    "GCP": frozenset({"Id", "Info", "Pixel", "Line", "X", "Y", "Z"}),
    "Metadata": frozenset({"domain"}),
    "MDI": frozenset({"key"}),
    "OverviewList": frozenset({"resampling"}),
    "Entry": frozenset({"c1", "c2", "c3", "c4"}),
    "SimpleSource": _SOURCE,
    "ComplexSource": _SOURCE,
    "SourceFilename": frozenset({"relativeToVRT", "shared"}),
    "SourceProperties": frozenset({"RasterXSize", "RasterYSize", "DataType", "BlockXSize", "BlockYSize"}),
    "SrcRect": _RECT,
    "DstRect": _RECT,
}
"""Elements that are let through, with their attributes."""

KEPT_METADATA = {"", "RPC", "IMAGE_STRUCTURE"}
"""Domains of metadata that say something about pixels; the domain OVERVIEWS would name another file."""


def vetted(path: Path) -> tuple[str, tuple[Path, ...]]:
    """The VRT as text with absolute sources, and those sources: existing files below the VRT's folder.

    Raises:
        InputError: It is no plain mosaic of files below its folder.
    """
    root = _parse(path)
    _drop_idle(root)
    for element in root.iter():
        _check(element, path)
    sources = tuple(_rewrite(element, path) for element in root.iter("SourceFilename"))
    return ElementTree.tostring(root, encoding="unicode"), tuple(dict.fromkeys(sources))


def _parse(path: Path) -> ElementTree.Element:
    if path.stat().st_size > MOST_BYTES:
        raise InputError(f"{path}: a VRT of more than {MOST_BYTES} bytes is not read")
    try:
        text = path.read_bytes().decode("utf-8-sig")
        if "<!" in text.replace("<!--", "").replace("<![CDATA[", ""):
            raise InputError(f"{path}: a VRT with a document type or entities is not read; remove the <! lines")
        return ElementTree.fromstring(text)
    except (ValueError, ElementTree.ParseError) as error:
        raise InputError(f"{path}: is no well-formed VRT ({error}); make it anew with gdalbuildvrt") from error


def _drop_idle(root: ElementTree.Element) -> None:
    """Take out what tells nothing about pixels but may hold anything."""
    for parent in list(root.iter()):
        for child in list(parent):
            foreign = child.tag == "Metadata" and child.get("domain", "") not in KEPT_METADATA
            if foreign or child.tag == "Histograms":
                parent.remove(child)


def _check(element: ElementTree.Element, path: Path) -> None:
    attributes = ALLOWED.get(element.tag)
    if attributes is None:
        raise InputError(f"{path}: a VRT with <{element.tag}> is not read, only simple and complex sources are")
    for name in element.attrib.keys() - attributes:
        raise InputError(
            f"{path}: a VRT with {name}={element.get(name)!r} in <{element.tag}> is not read, "
            "only simple and complex sources are"
        )


def _rewrite(element: ElementTree.Element, path: Path) -> Path:
    """Make the source's path absolute, in place."""
    name = (element.text or "").strip()
    if "://" in name or name.startswith("/vsi"):
        raise InputError(f"{path}: source {name[:80]}: a VRT may not name other hosts or archives; give the files")
    base = path.parent if element.get("relativeToVRT") == "1" else Path.cwd()
    try:
        source, folder = (base / name).resolve(strict=True), path.parent.resolve()
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: source {name[:80]} is missing; put it there or make the VRT anew") from error
    if not source.is_relative_to(folder) or not source.is_file():
        raise InputError(f"{path}: source {name[:80]} is no file below the VRT's folder; move the VRT above its files")
    element.text = str(source)
    element.set("relativeToVRT", "0")
    return source
