"""Pictures: from bytes, a file, a PIL image, a numpy array or a data: URL to a checked, immutable Picture.

Anybody may have sent them. Their size is read from the header before anything is decoded, and Pillow may use the
decoders of five formats alone: it has others that start programs or that nobody maintains.
"""

import base64
import binascii
import errno
import io
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .checks import require
from .errors import RequestError
from .system.files import expand_user, read_bounded
from .system.installation import install_hint
from .system.native_effects import ignore_user_warnings
from .system.out_of_memory import is_out_of_memory
from .text import one_line, quoted

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

MAX_BYTES = 20_000_000  # of a picture's file
MAX_PIXELS = 50_000_000
_FORMATS_HINT = "send a JPEG, PNG, WEBP, GIF or BMP file"
_STRIP = 1 << 22  # pixels that are converted at once
_WHITE = 255
_ORIENTATION = 0x0112  # EXIF's tag
_URL = re.compile(r"([a-z][a-z0-9+.-]{1,30}):", re.IGNORECASE)  # a drive of Windows has one letter
_DATA_URL = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)


class PixelArray(Protocol):
    """A PIL image or a numpy array."""

    @property
    def __array_interface__(self) -> dict[str, Any]:
        """numpy's array interface."""


@dataclass(frozen=True, slots=True, repr=False)
class Picture:
    """A picture that a model can read. `width` and `height` are in pixels, as a person sees it: turned as its EXIF
    orientation says. `data` is its file, as it came; what came as pixels is a PNG.

    `sha256` is the hash of the pixels that `pixels` returns, not of the file: arrays have no file, and the same pixels
    in another format make the same features in a model. Pictures with the same pixels are equal.

    Example:
        picture = edge.Picture.open("ferry.jpg")
        print(picture.width, picture.height, picture.media_type)
    """

    sha256: str
    width: int
    height: int
    media_type: str = field(compare=False)
    data: bytes = field(compare=False)

    @classmethod
    def open(cls, source: "PictureLike") -> "Picture":
        """Check and decode a picture: JPEG, PNG, WEBP, GIF or BMP of at most 20 MB and 50 megapixels, whatever its
        name says. Of an animation the first frame counts, and transparent parts become white.

        Raises RequestError for what is no such picture, for a damaged one, and for an http(s) URL: nothing is fetched.
        """
        if isinstance(source, Picture):
            return source
        if isinstance(source, bytes | bytearray | memoryview):
            return cls._decode(bytes(source))
        if isinstance(source, str) and _URL.match(source):
            return cls.from_url(source)
        if isinstance(source, str | os.PathLike):
            return cls._decode(_read_file(expand_user(source)))
        with _decoding():
            if isinstance(source, _pillow().Image):
                return cls._of_pixels(_upright(source))
            if hasattr(source, "__array_interface__"):
                return cls._of_pixels(_from_array(source))
        raise RequestError(
            f"a picture is {type(source).__name__}",
            hint="pass a path, bytes, a data: URL, a PIL image or a numpy array",
        )

    @classmethod
    def from_url(cls, url: str) -> "Picture":
        """Decode a `data:` URL, as OpenAI's clients send pictures. Raises RequestError, also for any other URL or a
        path: what a client sends must not name files of this machine."""
        require("a picture's URL", url, str, "a data: URL")
        if header := _DATA_URL.match(url):
            return cls.from_base64(url[header.end() :])
        scheme = _URL.match(url)
        if scheme and scheme[1].lower() in ("http", "https"):
            raise RequestError(
                f"pictures are not fetched from {scheme[1].lower()} URLs", hint="send the picture itself: a data: URL"
            )
        raise RequestError(
            f"a picture's URL is {quoted(url, 40)}", hint="send a data: URL, such as data:image/jpeg;base64,…"
        )

    @classmethod
    def from_base64(cls, text: str) -> "Picture":
        """Decode a file in base64. Raises RequestError."""
        require("a picture", text, str, "base64")
        if len(text) * 3 // 4 > MAX_BYTES + 2:
            raise _too_large(len(text) * 3 // 4)
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as exc:
            raise RequestError("a picture is not valid base64", hint="encode the file's bytes as base64") from exc
        return cls._decode(data)

    @classmethod
    def _decode(cls, data: bytes) -> "Picture":
        with _decoding():
            image = _open(data)
            media_type = f"image/{str(image.format).lower()}"
            return cls(*_identity(_upright(image)), media_type, data)

    @classmethod
    def _of_pixels(cls, pixels: "npt.NDArray[np.uint8]") -> "Picture":
        file = io.BytesIO()
        _pillow().fromarray(pixels).save(file, "PNG", compress_level=1)
        return cls(*_identity(pixels), "image/png", file.getvalue())

    def pixels(self) -> "npt.NDArray[np.uint8]":
        """Return the pixels, decoded anew: red, green and blue of shape [height, width, 3]."""
        with _decoding():
            return _upright(_open(self.data))

    def to_url(self) -> str:
        """Return the picture as a `data:` URL."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.data).decode()}"

    def __repr__(self) -> str:
        return f"<Picture {self.width}x{self.height} {self.media_type} {self.sha256[:12]}>"


PictureLike = Picture | bytes | str | os.PathLike[str] | PixelArray
"""A Picture, or what `Picture.open` makes one of: the bytes of a file, its path, a `data:` URL, a PIL image, or a numpy
array of shape [height, width, 3], [height, width, 4] or [height, width].

Example:
    from pathlib import Path

    ferry: edge.PictureLike = Path("ferry.jpg")
    question = edge.Message("user", "What is this?", pictures=(edge.Picture.open(ferry),))
"""


def to_pictures(pictures: Iterable[PictureLike]) -> tuple[Picture, ...]:
    """Return the pictures of a list. Raises RequestError."""
    require("pictures", pictures, list | tuple, "a list of pictures")
    return tuple(Picture.open(picture) for picture in pictures)


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as exc:
        if is_out_of_memory(exc):
            raise
        raise RequestError(
            "Pillow is not installed, which decodes pictures for vision models", hint=install_hint("vision")
        ) from exc
    return Image


@contextmanager
def _decoding() -> Iterator[None]:
    """Turn whatever decoding a picture raises into RequestError."""
    _pillow()
    try:
        with ignore_user_warnings():  # of metadata that nobody reads here
            yield
    except RequestError:
        raise
    except Exception as exc:  # a decoder raises anything
        if is_out_of_memory(exc):
            raise RequestError("a picture does not fit into memory", hint="send a smaller one") from exc
        raise RequestError(f"a picture is damaged: {one_line(exc)}", hint=_FORMATS_HINT) from exc


def _open(data: bytes) -> "Image.Image":
    """Read the header of a picture's file; nothing is decoded. Raises RequestError, or what Pillow raises."""
    from PIL import BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

    if len(data) > MAX_BYTES:
        raise _too_large(len(data))
    file = io.BytesIO(data)
    image: Image.Image
    # Not by Image.open, which tries every format that any module of the process has registered.
    if data.startswith(b"\xff\xd8\xff"):
        image = JpegImagePlugin.JpegImageFile(file)
    elif data.startswith(b"\x89PNG"):
        image = PngImagePlugin.PngImageFile(file)
    elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        _require_pixels(*_webp_size(data))  # its decoder allocates the canvas when it is opened
        image = WebPImagePlugin.WebPImageFile(file)
    elif data.startswith(b"GIF8"):
        image = GifImagePlugin.GifImageFile(file)
    elif data.startswith(b"BM"):
        image = BmpImagePlugin.BmpImageFile(file)
    else:
        raise RequestError("a picture has none of the supported formats", hint=_FORMATS_HINT)
    _require_pixels(*image.size)
    return image


def _webp_size(data: bytes) -> tuple[int, int]:
    """Return the size of the canvas, from the header. Source: RFC 9649."""
    header = data[:30].ljust(30, b"\0")
    match header[12:16]:
        case b"VP8X":
            return int.from_bytes(header[24:27], "little") + 1, int.from_bytes(header[27:30], "little") + 1
        case b"VP8L":
            bits = int.from_bytes(header[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 ":
            width, height = (int.from_bytes(header[at : at + 2], "little") & 0x3FFF for at in (26, 28))
            return width, height
    raise RequestError("a picture is damaged: its WEBP header has no size", hint=_FORMATS_HINT)


def _require_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise RequestError(
            f"a picture has {width:,} x {height:,} pixels",
            hint=f"it may have {MAX_PIXELS // 10**6} million: scale it down",
        )


def _too_large(size: int) -> RequestError:
    return RequestError(
        f"a picture has {size / 1e6:.1f} MB", hint=f"it may have {MAX_BYTES // 10**6} MB: scale it down, or send a JPEG"
    )


def _read_file(path: Path) -> bytes:
    try:
        return read_bounded(path, MAX_BYTES)
    except OSError as exc:
        if exc.errno == errno.EFBIG:
            raise _too_large(path.stat().st_size) from exc
        raise RequestError(f"the picture {path} cannot be read: {exc.strerror}", hint="check its path") from exc
    except ValueError as exc:  # \0 in the name
        raise RequestError(f"{quoted(str(path))} is not a path", hint="pass the path of a picture") from exc


def _upright(image: "Image.Image") -> "npt.NDArray[np.uint8]":
    """Return an image's pixels in RGB, turned as its EXIF orientation says. Its size is checked first."""
    import numpy as np

    _require_pixels(*image.size)
    orientation = _orientation(image)
    image.load()
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(_STRIP // max(width, 1), 1)
    for top in range(0, height, rows):  # a conversion of the whole would take several times its memory
        strip = image.crop((0, top, width, min(top + rows, height)))
        pixels[top : top + rows] = _to_rgb(strip)
    # Mirrored, turned by half, or both; those above 4 lie on their side as well.
    sides = pixels.swapaxes(0, 1) if orientation > 4 else pixels
    down, across = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}.get(orientation, (1, 1))
    return np.ascontiguousarray(sides[::down, ::across])


def _orientation(image: "Image.Image") -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF: browsers show such a picture as it lies  # noqa: BLE001
        return 1


def _to_rgb(image: "Image.Image") -> "npt.NDArray[np.uint8]":
    import numpy as np

    if image.mode == "F" or image.mode.startswith("I"):  # 16 bits; Pillow's own conversion clips them
        wide = np.asarray(image).astype(np.float32)
        grey = np.clip(wide / 257 + 0.5, 0, _WHITE).astype(np.uint8)
        if isinstance(key := image.info.get("transparency"), int):
            grey[wide == key] = _WHITE
        return np.repeat(grey[:, :, None], 3, 2)
    if not image.has_transparency_data:
        return np.asarray(image.convert("RGB"))
    return _on_white(np.asarray(image.convert("RGBA")))


def _on_white(pixels: "npt.NDArray[np.uint8]") -> "npt.NDArray[np.uint8]":
    """Return RGB of RGBA, on a white ground."""
    import numpy as np

    opacity = pixels[..., 3:].astype(np.uint16)
    mixed = pixels[..., :3] * opacity + _WHITE * (_WHITE - opacity)
    return ((mixed + _WHITE // 2) // _WHITE).astype(np.uint8)


def _from_array(array: Any) -> "npt.NDArray[np.uint8]":
    import numpy as np

    array = np.asarray(array)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or not array.size:
        raise RequestError(
            f"a picture is an array of shape {list(array.shape)}",
            hint="it may be [height, width, 3], or with 4 for RGBA",
        )
    _require_pixels(array.shape[1], array.shape[0])
    if array.dtype == np.uint16:
        array = ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if array.dtype != np.uint8:
        raise RequestError(f"a picture is an array of {array.dtype}", hint="pass uint8: 0 to 255")
    if array.ndim == 2:
        array = np.repeat(array[:, :, None], 3, 2)
    return np.ascontiguousarray(_on_white(array) if array.shape[2] == 4 else array)


def _identity(pixels: "npt.NDArray[np.uint8]") -> tuple[str, int, int]:
    """Return the hash, the width and the height of a picture."""
    height, width, _ = pixels.shape
    digest = sha256(f"{width}x{height} ".encode())
    digest.update(pixels.data)
    return digest.hexdigest(), width, height
