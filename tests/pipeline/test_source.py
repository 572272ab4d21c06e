"""What a raster may make GDAL open: nothing but what was named, unless that is allowed."""

import dataclasses
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import rasterio
from web import serving

from pipeline.errors import HostError, InputError
from pipeline.rasters.raster import Reader, open_raster

PLACE = {"crs": "EPSG:32633", "transform": (1, 0, 3e5, 0, -1, 2e6)}
TILED = {"tiled": True, "blockxsize": 64, "blockysize": 64}


def refused(path, words, **options) -> str:
    """The one line that the raster is refused with."""
    with pytest.raises(InputError, match=words) as error:
        open_raster(path, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def read_all(spec):
    """All pixels and their validity."""
    with Reader(spec) as reader:
        return reader.read(spec.grid.window)


def vrt(folder: Path, band: str, name="mosaic.vrt", root='rasterXSize="20" rasterYSize="20"') -> Path:
    """A VRT of one band in that folder."""
    path = folder / name
    path.write_text(f"<VRTDataset {root}>{band}</VRTDataset>")
    return path


def simple(source: str, extra="", band='dataType="Byte" band="1"') -> str:
    """A band with one simple source."""
    return (
        f"<VRTRasterBand {band}><SimpleSource>{source}<SourceBand>1</SourceBand>"
        '<SrcRect xOff="0" yOff="0" xSize="20" ySize="20"/>'
        f'<DstRect xOff="0" yOff="0" xSize="20" ySize="20"/>{extra}</SimpleSource></VRTRasterBand>'
    )


BESIDE = '<SourceFilename relativeToVRT="1">part?#&amp; 1.tif</SourceFilename>'
RAW = (
    '<VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand"><SourceFilename>/etc/hostname</SourceFilename>'
    "<ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset><LineOffset>1</LineOffset></VRTRasterBand>"
)


@pytest.fixture
def part(make_raster) -> Path:
    """A raster for a VRT to name, with a name that is hard to quote."""
    return make_raster("part?#& 1.tif", (1, 20, 20))


def test_a_vrt_is_read_only_where_that_is_allowed(part):
    """With --allow-vrt its pixels are those of its source."""
    path = vrt(part.parent, simple(BESIDE))
    assert refused(path, "is a VRT.*--allow-vrt", needed=1)
    spec = open_raster(path, needed=1, allow_vrt=True)
    np.testing.assert_array_equal(read_all(spec).pixels, read_all(open_raster(part, needed=1)).pixels)
    assert [Path(stamp.path).name for stamp in spec.stamps] == ["mosaic.vrt", "part?#& 1.tif"]


@pytest.mark.parametrize("name", ["a.vrt", "a.tif"])
def test_a_raw_band_reads_no_file_of_the_machine(tmp_path, name):
    """Neither with nor without leave, and whatever the file is called."""
    path = vrt(tmp_path, RAW, name)
    assert refused(path, "is a VRT", needed=1)
    assert refused(path, "subClass='VRTRawRasterBand'.*only simple and complex", needed=1, allow_vrt=True)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (simple(BESIDE, band='dataType="Byte" band="1" subClass="VRTDerivedRasterBand"'), "subClass"),
        (simple(BESIDE, band='dataType="Byte" band="1" subclass="VRTRawRasterBand"'), "subclass"),
        (simple(BESIDE, band='dataType="Byte" band="1" PixelFunctionType="x"'), "PixelFunctionType"),
        (simple(BESIDE).replace("SimpleSource", "KernelFilteredSource"), "<KernelFilteredSource>"),
        (simple(BESIDE).replace("Source>", "source>"), "<Simplesource>"),
        (simple(BESIDE, "<OpenOptions><OOI key='x'>y</OOI></OpenOptions>"), "<OpenOptions>"),
        (simple("", "<SourceBand SourceFilename='/etc/hostname'>1</SourceBand>"), "SourceFilename='/etc/hostname'"),
        (simple("<SourceFilename>/etc/hostname</SourceFilename>"), "no file below the VRT's folder"),
        (simple('<SourceFilename relativeToVRT="1">../../etc/hostname</SourceFilename>'), "missing|no file below"),
        (simple('<SourceFilename relativeToVRT="1">link.tif</SourceFilename>'), "no file below the VRT's folder"),
        (simple('<SourceFilename relativeToVRT="1">gone.tif</SourceFilename>'), "is missing"),
        (simple('<SourceFilename relativeToVRT="1">text.tif</SourceFilename>'), "is no raster"),
        (simple('<SourceFilename relativeToVRT="1">nested.tif</SourceFilename>'), "is VRT"),
        (simple("<SourceFilename>/vsicurl/http://127.0.0.1/a.tif</SourceFilename>"), "other hosts"),
        (simple("<SourceFilename>http://127.0.0.1/a.tif</SourceFilename>"), "other hosts"),
        (simple("<SourceFilename>/vsizip/a.zip/a.tif</SourceFilename>"), "other hosts or archives"),
        ("<GDALWarpOptions/>", "<GDALWarpOptions>"),
        ("<PansharpeningOptions/>", "<PansharpeningOptions>"),
        ("<VRTRasterBand>", "no well-formed VRT"),
    ],
)
def test_a_vrt_that_could_reach_out_is_refused(part, content, words):
    """Other files, other hosts, code, and spellings that GDAL takes for the same."""
    (part.parent / "link.tif").symlink_to("/etc/hostname")
    (part.parent / "text.tif").write_text("plain text")
    vrt(part.parent, simple(BESIDE), "nested.tif")
    assert refused(vrt(part.parent, content), words, needed=1, allow_vrt=True)


def test_entities_are_refused(part):
    """Ten lines of them may expand to gigabytes."""
    path = vrt(part.parent, simple(BESIDE))
    path.write_text('<!DOCTYPE x [<!ENTITY a "b">]>' + path.read_text())
    assert refused(path, "document type or entities", needed=1, allow_vrt=True)


def test_sources_of_a_vrt_are_checked_like_inputs(make_raster, tmp_path):
    """A truncated source and one with blocks too large are found before the start."""
    source = make_raster("part.tif", (1, 200, 200), **TILED)
    path = vrt(tmp_path, simple('<SourceFilename relativeToVRT="1">part.tif</SourceFilename>'))
    assert refused(
        path, "part.tif: one of its blocks decodes to 4096 bytes", needed=1, allow_vrt=True, max_block_bytes=4000
    )
    source.write_bytes(source.read_bytes()[:-50])
    assert refused(path, "part.tif: cut short", needed=1, allow_vrt=True)


@pytest.mark.parametrize(
    "name",
    ["https://example.invalid/a.tif", "/vsicurl/http://127.0.0.1/a.tif", "s3://bucket/a.tif", "/vsis3/bucket/a.tif"],
)
def test_other_hosts_need_leave(name):
    """A path from a list or a form may be anybody's."""
    assert refused(name, "another host; download it, or let run, plan or preview read it with --allow-remote")


@pytest.mark.parametrize(
    "name",
    ["/vsizip/a.zip/a.tif", "zip://a.zip!a.tif", "/vsimem/a.tif", "file:///a.tif", "/vsistdin/", "ftp://h/a.tif"],
)
def test_archives_and_other_schemes_are_not_read(name):
    """With or without leave for other hosts."""
    assert refused(name, "only files and http", allow_remote=True)


@pytest.mark.parametrize("host", ["169.254.169.254", "0xa9fea9fe", "2852039166", "[fe80::1]", "u:p@169.254.169.254:80"])
def test_the_addresses_of_a_cloud_machine_are_never_asked(host):
    """They hand out credentials."""
    assert refused(f"http://{host}/latest/meta-data", "this machine's cloud", allow_remote=True)


def test_inline_xml_is_no_path(tmp_path):
    """GDAL would take the text itself for a VRT."""
    assert refused(f"<VRTDataset rasterXSize='9' rasterYSize='9'>{RAW}</VRTDataset>", "cannot be read", allow_vrt=True)


def test_secrets_of_an_address_are_not_shown():
    """Neither the password nor the signature gets into a log."""
    text = refused("https://user:pass@example.invalid/a.tif?X-Amz-Signature=secret", "example.invalid/a.tif: is on")
    assert "pass" not in text
    assert "secret" not in text


@pytest.fixture
def served(tmp_path):
    """A web server on loopback over the test's folder."""
    with serving(tmp_path, tmp_path / "asked") as web:
        yield web


def test_a_raster_on_another_host_reads_like_a_file(make_raster, served):
    """With leave, and without asking for sidecars."""
    path = make_raster("a.tif", (3, 40, 50), "EPSG:32633")
    spec = open_raster(f"{served.address}/a.tif", allow_remote=True)
    np.testing.assert_array_equal(read_all(spec).pixels, read_all(open_raster(path)).pixels)
    assert set(served.asked) == {"/a.tif"}


def test_a_host_that_does_not_answer_may_do_so_later(make_raster, served):
    """It is no fault of the file's: exit 75, and the same command goes on."""
    make_raster("a.tif", (3, 40, 50), "EPSG:32633")
    spec = open_raster(f"{served.address}/a.tif", allow_remote=True)
    with pytest.raises(HostError, match=r"cannot read .*run the same command again") as error:
        read_all(dataclasses.replace(spec, path="http://127.0.0.1:9/a.tif"))
    assert error.value.exit_code == 75


def test_no_request_is_made_without_leave(make_raster, served, tmp_path):
    """Not by a VRT in disguise, and not by a mask file beside a raster that is one."""
    url = f"<SourceFilename>/vsicurl/{served.address}/a.tif</SourceFilename>"
    assert refused(vrt(tmp_path, simple(url), "b.tif"), "is a VRT", needed=1)
    path = make_raster("a.tif", (1, 20, 20))
    shutil.copy(vrt(tmp_path, simple(url)), tmp_path / "a.tif.msk")
    assert refused(path, "would be read as mask", needed=1)
    assert not served.asked


def test_a_raster_names_no_other_file_as_its_overviews(make_raster):
    """GDAL would show that one's pixels in each picture of this one: told in its own metadata or beside it."""
    make_raster("secret.tif", np.full((3, 64, 64), 77, np.uint8))
    path = make_raster("a.tif", (3, 256, 256), **PLACE)
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=str(path.with_name("secret.tif")))
    assert refused(path, "names another file as its overviews")
    other = make_raster("b.tif", (3, 256, 256))
    item = f'<MDI key="OVERVIEW_FILE">{path.with_name("secret.tif")}</MDI>'
    beside = f'<PAMDataset><Metadata domain="OVERVIEWS">{item}</Metadata></PAMDataset>'
    other.with_name("b.tif.aux.xml").write_text(beside)
    assert refused(other, "names another file as its overviews")


@pytest.mark.parametrize("suffix", [".msk", ".ovr"])
@pytest.mark.parametrize("driver", ["GTiff", "PNG"])
def test_mask_and_overviews_beside_a_raster_are_tiffs(make_raster, suffix, driver):
    """GDAL opens them with any driver: a VRT would make bytes of any file into validity."""
    path = make_raster("a.img", (1, 20, 20), driver=driver)
    shutil.copy(vrt(path.parent, RAW), path.with_name(f"a.img{suffix}"))
    assert refused(path, f"a.img{suffix}: would be read as mask or overviews and is no TIFF", needed=1)


@pytest.mark.parametrize("where", ["within", "beside"])
def test_no_block_of_a_mask_or_an_overview_fills_the_memory(make_raster, where):
    """Behind an image whose own blocks are small."""
    path = make_raster("a.tif", (1, 256, 256), **PLACE, **TILED)
    if where == "within":
        with rasterio.Env(GDAL_TIFF_OVR_BLOCKSIZE="2048"), rasterio.open(path, "r+") as dataset:
            dataset.build_overviews([2])
    else:
        huge = TILED | {"blockxsize": 2048, "blockysize": 2048}
        make_raster("a.tif.msk", np.zeros((1, 64, 64), np.uint8), compress="deflate", **huge)
    assert refused(path, f"decodes to {2048**2} bytes", needed=1, max_block_bytes=10**6)


def test_a_header_that_claims_the_earth_is_refused(tmp_path):
    """Lists of its tiles would fill the memory before any pixel is read; a BMP's header is all it takes."""
    path = tmp_path / "a.tif"
    fields = struct.pack("<IiiHHIIiiII", 40, 2**31 - 1, 2**31 - 1, 1, 24, 0, 0, 0, 0, 0, 0)
    path.write_bytes(b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + fields)
    assert refused(path, "says it has|cannot be opened")


def test_a_file_that_decodes_to_far_more_than_it_is_gets_a_note(make_raster):
    """It may be sparse, or made to harm."""
    layout = TILED | {"blockxsize": 1024, "blockysize": 1024}
    path = make_raster("a.tif", np.zeros((1, 8192, 8192), np.uint8), SPARSE_OK=True, **layout)
    assert "decodes to 0.1 GB from 0.0 MB" in " ".join(open_raster(path, needed=1).notes)
