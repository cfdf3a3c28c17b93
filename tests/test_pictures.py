"""Pictures of every kind, and those that strangers send."""

import base64
import io
import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
Image = pytest.importorskip("PIL.Image")

from runtime.errors import RequestError  # noqa: E402
from runtime.pictures import MAX_BYTES, Picture, to_pictures  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
# Two rows of three pixels: no turn of it looks like another.
SMALL = np.array([[RED, GREEN, BLUE], [WHITE, (0, 0, 0), (128, 128, 128)]], np.uint8)


def saved(image, kind: str, **settings) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


def png(width: int, height: int, *, bits: int = 1, kind: int = 0, rows: int | None = None) -> bytes:
    """A black PNG of any size, or as many of its rows."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    channels = {0: 1, 2: 3, 6: 4}[kind]
    row = bytes(1 + (width * bits * channels + 7) // 8)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(row) for _ in range(rows or height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def exif(orientation: int) -> bytes:
    found = Image.Exif()
    found[274] = orientation
    return found.tobytes()


def photo(width: int = 60, height: int = 40):
    """A picture without sharp edges, which lossy formats keep."""
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([across, down, 255 - across], 2).astype(np.uint8))


def test_one_picture_from_every_source(tmp_path):
    data = saved(Image.fromarray(SMALL), "PNG")
    (tmp_path / "small.jpg").write_bytes(data)  # the content counts, not the name
    url = f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
    sources = (data, bytearray(data), tmp_path / "small.jpg", str(tmp_path / "small.jpg"), url, SMALL)
    found = to_pictures([*sources, Image.fromarray(SMALL), Picture.open(data), SMALL[::-1][::-1]])
    assert set(found) == {found[0]}
    for picture in found:
        assert (picture.width, picture.height, picture.media_type) == (3, 2, "image/png")
        assert np.array_equal(picture.pixels(), SMALL)
        assert Picture.from_url(picture.to_url()) == picture
    assert len(found[0].sha256) == 64
    assert "3x2" in repr(found[0])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_formats(kind):
    picture = Picture.open(saved(photo(), kind))
    assert picture.media_type == f"image/{kind.lower()}"
    assert np.abs(picture.pixels().astype(int) - np.asarray(photo())).mean() < 6


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_upright(kind, orientation):
    from PIL import ImageOps

    data = saved(photo(), kind, exif=exif(orientation))
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    picture = Picture.open(data)
    assert (picture.width, picture.height) == upright.size == ((40, 60) if orientation > 4 else (60, 40))
    assert np.array_equal(picture.pixels(), np.asarray(upright.convert("RGB")))
    opened = Picture.open(Image.open(io.BytesIO(data)))
    assert opened == picture  # its file is a PNG that needs no turning
    assert np.array_equal(opened.pixels(), picture.pixels())


def test_transparent_parts_are_white():
    faded = np.dstack([SMALL, np.array([[0, 255, 255], [255, 128, 255]], np.uint8)])
    wanted = SMALL.copy()
    wanted[0, 0], wanted[1, 1] = WHITE, (127, 127, 127)
    assert np.array_equal(Picture.open(faded).pixels(), wanted)
    assert np.array_equal(Picture.open(saved(Image.fromarray(faded), "PNG")).pixels(), wanted)
    palette = Image.fromarray(SMALL).convert("P", palette=Image.Palette.ADAPTIVE)
    for kind in ("PNG", "GIF"):
        clear = palette.getpixel((0, 0))
        pixels = Picture.open(saved(palette, kind, transparency=clear)).pixels()
        assert tuple(pixels[0, 0]) == WHITE
        assert tuple(pixels[0, 1]) == GREEN
    keyed = Picture.open(saved(Image.fromarray(SMALL), "PNG", transparency=BLUE)).pixels()
    assert tuple(keyed[0, 2]) == WHITE


def test_deep_and_printed_colours():
    deep = (np.linspace(0, 1, 60 * 40) * 65535).astype(np.uint16).reshape(40, 60)
    wanted = np.round(deep / 257)
    for source in (saved(Image.fromarray(deep), "PNG"), deep, Image.fromarray(deep)):
        pixels = Picture.open(source).pixels()
        assert np.abs(pixels.astype(int) - wanted[:, :, None]).max() <= 1
    printed = Picture.open(saved(photo().convert("CMYK"), "JPEG")).pixels()
    assert np.abs(printed.astype(int) - np.asarray(photo())).mean() < 6
    grey = Picture.open(saved(photo().convert("L"), "PNG")).pixels()
    assert np.array_equal(grey[:, :, 0], np.asarray(photo().convert("L")))
    assert Picture.open(saved(photo().convert("1"), "PNG")).pixels().max() == 255


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation_counts(kind):
    frames = [Image.new("RGB", (20, 10), colour) for colour in (RED, GREEN, BLUE)]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
    assert np.array_equal(Picture.open(data).pixels(), np.asarray(frames[0]))


def test_strips_are_converted_alike(monkeypatch):
    monkeypatch.setattr("runtime.pictures._STRIP", 7 * 60)
    assert np.array_equal(Picture.open(photo()).pixels(), np.asarray(photo()))


JPEG = saved(photo(), "JPEG")
REFUSED = {
    "an http URL": ("https://example.com/cat.png", "not fetched from https"),
    "a file URL": ("file:///etc/passwd", "URL is 'file:"),
    "a data URL without base64": ("data:image/png,abc", "URL is 'data:"),
    "a damaged data URL": ("data:image/png;base64,@@@", "not valid base64"),
    "a missing file": ("nowhere.png", "cannot be read"),
    "a folder": (".", "cannot be read"),
    "a path that is none": ("a\0b", "not a path"),
    "no bytes": (b"", "none of the supported formats"),
    "text": (b"hello", "none of the supported formats"),
    "an SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "none of the supported formats"),
    "an EPS": (saved(photo(), "EPS"), "none of the supported formats"),
    "a TIFF": (saved(photo(), "TIFF"), "none of the supported formats"),
    "an ICO": (saved(photo(), "ICO"), "none of the supported formats"),
    "a JPEG that ends early": (JPEG[:500], "damaged"),
    "a PNG that ends early": (saved(photo(), "PNG")[:-100], "damaged"),
    "a WEBP that ends early": (saved(photo(), "WEBP")[:60], "damaged"),
    "a WEBP without a size": (b"RIFF\0\0\0\0WEBPVP8?", "damaged"),
    "a GIF that ends early": (saved(photo(), "GIF")[:40], "damaged"),
    "a BMP that ends early": (saved(photo(), "BMP")[:300], "damaged"),
    "signatures alone": (b"\x89PNG\r\n\x1a\n", "damaged"),
    "too many bytes": (JPEG + bytes(MAX_BYTES), "20.0 MB"),
    "too many bytes in base64": ("data:image/png;base64," + "A" * (MAX_BYTES * 4 // 3 + 40), "20.0 MB"),
    "floats": (np.zeros((2, 2, 3)), "array of float64"),
    "five channels": (np.zeros((2, 2, 5), np.uint8), r"shape \[2, 2, 5\]"),
    "no pixels": (np.zeros((0, 2, 3), np.uint8), "shape"),
    "a large array": (np.broadcast_to(np.uint8(0), (30_000, 30_000)), "30,000 x 30,000"),
    "a number": (7, "is int"),
}


@pytest.mark.parametrize(("source", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused_names_the_cause_and_the_cure(source, message):
    with pytest.raises(RequestError, match=message) as caught:
        Picture.open(source)
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_what_a_client_sends_names_no_file(tmp_path):
    (tmp_path / "a.png").write_bytes(saved(photo(), "PNG"))
    with pytest.raises(RequestError, match="URL is"):
        Picture.from_url(str(tmp_path / "a.png"))


def test_pictures_are_a_list():
    with pytest.raises(RequestError, match="a list of pictures"):
        to_pictures(JPEG)


OPEN = """
import json, sys, warnings
from pathlib import Path
from runtime.errors import RequestError
from runtime.pictures import Picture
warnings.simplefilter("error")
for line in sys.stdin:
    try:
        found = "%d x %d" % (lambda picture: (picture.width, picture.height))(Picture.open(line.strip()))
    except RequestError as exc:
        found = str(exc)
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    print(json.dumps([found, int(peak.split()[1]) * 1024]), flush=True)
"""


def hostile() -> dict[str, tuple[bytes, str]]:
    broad = saved(Image.new("RGB", (7000, 7000)), "JPEG")
    webp = bytearray(saved(photo(), "WEBP", lossless=True))
    webp[21:25] = struct.pack("<I", int.from_bytes(webp[21:25], "little") & 0xF0000000 | 0x0FFFFFFF)
    gif = bytearray(saved(photo(), "GIF"))
    gif[6:10] = struct.pack("<HH", 65535, 65535)
    bmp = bytearray(saved(photo(), "BMP"))
    bmp[18:26] = struct.pack("<ii", 100_000, -100_000)
    damaged = JPEG.replace(JPEG[2:4], b"\xff\xe1\x00\x20Exif\0\0MM\0\x2a\xff\xff\xff\xff" + bytes(16) + JPEG[2:4], 1)
    return {
        "a bomb": (png(30_000, 30_000, rows=1), "a picture has 30,000 x 30,000 pixels"),
        "a bomb of few rows": (png(9_999_999, 6), "a picture has 9,999,999 x 6 pixels"),
        "a WEBP bomb": (bytes(webp), "a picture has 16,384 x 16,384 pixels"),
        "a GIF bomb": (bytes(gif), "a picture has 65,535 x 65,535 pixels"),
        "a BMP bomb": (bytes(bmp), "a picture has 100,000 x 100,000 pixels"),
        "49 megapixels": (png(7000, 7000), "7000 x 7000"),
        "49 megapixels, RGBA": (png(7000, 7000, bits=8, kind=6), "7000 x 7000"),
        "49 megapixels, 16 bit": (png(7000, 7000, bits=16), "7000 x 7000"),
        "49 megapixels, JPEG": (broad, "7000 x 7000"),
        "49 megapixels, on its side": (
            saved(Image.new("RGB", (7100, 6900)), "JPEG", exif=exif(6)),
            "6900 x 7100",
        ),
        "a long strip": (saved(Image.new("RGB", (1, 20_000)), "PNG"), "1 x 20000"),
        "damaged EXIF": (damaged, "60 x 40"),
    }


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc: ru_maxrss is the parent's at first")
def test_hostile_pictures_take_less_than_a_gigabyte(tmp_path):
    cases = hostile()
    cases["49 megapixels, WEBP"] = (
        saved(Image.new("RGBA", (7000, 7000)), "WEBP", lossless=True, method=0),
        "7000 x 7000",
    )
    for number, (data, _) in enumerate(cases.values()):
        (tmp_path / f"{number}.png").write_bytes(data)
    names = [str(tmp_path / f"{number}.png") for number in range(len(cases))]
    done = subprocess.run(
        [sys.executable, "-c", OPEN],
        input="\n".join(names),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert {name: answer for name, (answer, _) in zip(cases, found, strict=True)} == {
        name: wanted for name, (_, wanted) in cases.items()
    }
    assert max(peak for _, peak in found) < 1e9


def test_without_pillow_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(RequestError, match="Pillow is not installed") as caught:
        Picture.open(JPEG)
    assert "[vision]" in caught.value.hint
