"""Decode the bytes of an image file to RGB pixels, by these rules.

====================================================== =============================================================
file                                                   pixels
====================================================== =============================================================
grey, 1 bit                                            the same value in R, G and B; 1 bit is 0 or 255
palette                                                its colours
alpha, a transparent colour                            composited on white
CMYK, YCbCr                                            RGB by Pillow's conversion
16-bit grey (and 32-bit integers, clipped to 0..65535) divided by 257, rounded: 65535 is 255
16 bits a colour channel                               the high byte
32-bit float                                           0..1 times 255, rounded; below 0, above 1 and NaN are clipped,
                                                       unless that is most of the image: it cannot be read then
animation, several pages                               the first
EXIF orientation                                       applied
====================================================== =============================================================
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

# plugins register on import; done here because Pillow would import them lazily, from many threads at once
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin  # noqa: F401

from slmlp.data.dataset import ByteArray
from slmlp.runtime.plain import short

VERSION = 1  # part of every cache key; increased when a rule above changes any pixel
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .bmp .dib .tif .tiff .gif .ppm .pgm .pbm .pnm".split()  # noqa: SIM905
)
SIGNATURE = 16  # bytes that ``signature_problem`` needs
_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"GIF87a", b"GIF89a")

_JXL = (b"\xff\x0a", b"\0\0\0\x0cJXL ")
_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"), "HEIC"),
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
}
FLOAT_SLACK = 0.01  # beyond 0 and 1 that float images may reach without being counted
FLOATS_OUTSIDE = 0.25  # share of the values that are not 0

RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}

Image.preinit()

# one warning per unusual image would bury everything else; images that cannot be decoded raise anyway
warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@dataclass(frozen=True)
class Resize:
    """How an image is resized to a square."""

    side: int  # pixels
    interpolation: str = "bicubic"  # or "bilinear", both with antialiasing
    squash: bool = False  # resize the whole image, ignoring its aspect ratio; else its centre square

    @classmethod
    def of(cls, resize: int | Resize) -> Resize:
        """Return the argument; a number is a side in pixels, for the centre square by bicubic filtering."""
        return resize if isinstance(resize, Resize) else cls(resize)

    @property
    def marks(self) -> list[str]:
        """Return the settings that differ from the default, for cache keys; an empty list for the default."""
        return [] if self == Resize(self.side) else [self.interpolation, "squash" if self.squash else "centre"]


def signature_problem(head: bytes) -> str | None:
    """Return why ``head``, the first ``SIGNATURE`` bytes of a file, is not that of a known format, or None."""
    if not head:
        return "empty file"
    if head.startswith(_STARTS) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return None
    if len(head) > 2 and head[:1] == b"P" and head[1:2] in b"123456fFy" and head[2:3].isspace():
        return None
    other = "JPEG XL" if head.startswith(_JXL) else _BRANDS.get(head[8:12]) if head[4:8] == b"ftyp" else None
    if other:
        return f"an image in {other}, which is not read: save it as JPEG or PNG"
    return "no image: its first bytes belong to none of " + ", ".join(FORMATS)


def decode(content: bytes, short_side: int | None = None) -> ByteArray:
    """Decode an image file to RGB, uint8, (H, W, 3), by the rules at the top of this module.

    With ``short_side`` a JPEG may be scaled by 1/2, 1/4 or 1/8 while it is decoded, which is several times faster; its
    short side stays at least twice that many pixels.

    Raises:
        ValueError: the file is truncated, damaged, of another format, or above Pillow's decompression-bomb limit.
    """
    return np.array(_opened(content, short_side))  # a copy: asarray would be read-only, and torch warns of that


def decode_resized(content: bytes, resize: int | Resize) -> ByteArray:
    """Return ``resize_image(decode(content, side), resize)``, a fifth faster for small images."""
    resize = Resize.of(resize)
    return np.array(_resize(_opened(content, resize.side), resize))


def size_of(content: bytes) -> tuple[int, int]:
    """Return width and height of an image file, EXIF rotation applied, once it is known to decode to its end.

    A JPEG is decoded at 1/8 of its size, which takes a third of the time.

    Raises:
        ValueError: as ``decode``.
    """
    with _with_reason(content), Image.open(io.BytesIO(content), formats=FORMATS) as image:
        width, height = image.size
        turned = _turned(image)
        if image.format in ("JPEG", "MPO"):
            image.draft(None, (1, 1))
        image.load()
        if image.mode == "F":
            _check_floats(np.asarray(image))
    return (height, width) if turned else (width, height)


def turned(content: bytes) -> bool:
    """Return whether EXIF turns an image on its side, so that width and height are swapped against what is stored."""
    with _with_reason(content), Image.open(io.BytesIO(content), formats=FORMATS) as image:
        return _turned(image)


def _turned(image: Image.Image) -> bool:
    with contextlib.suppress(Exception):  # a damaged EXIF block, which ``decode`` ignores
        return bool(image.getexif().get(ExifTags.Base.Orientation, 1) >= 5)
    return False


def _opened(content: bytes, short_side: int | None) -> Image.Image:
    with _with_reason(content), Image.open(io.BytesIO(content), formats=FORMATS) as image:
        if short_side is not None and image.format in ("JPEG", "MPO"):
            scale = 2 * short_side / min(image.size)
            if scale < 1:
                image.draft(None, (-int(-image.width * scale // 1), -int(-image.height * scale // 1)))
        image.load()
        return _rgb(image)


@contextlib.contextmanager
def _with_reason(content: bytes) -> Iterator[None]:
    """Raise ValueError with the reason where Pillow cannot decode ``content``."""
    try:
        yield
    except MemoryError:
        raise
    except UnidentifiedImageError as error:  # its message only has the buffer's address
        problem = signature_problem(content[:SIGNATURE]) or _unusual_tiff(content) or "damaged header"
        raise ValueError(problem) from error
    except Exception as error:  # Pillow's plugins raise many types on damaged files
        raise ValueError(short(error)) from error


def _unusual_tiff(content: bytes) -> str | None:
    """Return what a TIFF holds that Pillow has no form for, as five bands; None for other files."""
    if content[:4] not in (b"II*\0", b"MM\0*"):
        return None
    with contextlib.suppress(Exception):
        directory = TiffImagePlugin.ImageFileDirectory_v2(content[:8])
        file = io.BytesIO(content)
        file.seek(directory.next)
        directory.load(file)
        bands, bits = int(directory.get(277, 1)), directory.get(258, (1,))
        return (
            f"a TIFF of {bands} band{'s' * (bands != 1)} of {'/'.join(map(str, dict.fromkeys(bits)))} bits, which "
            "cannot be read: save one band, or three as RGB, of 8 or 16 bits"
        )
    return None


def resize_image(image: ByteArray, resize: int | Resize) -> ByteArray:
    """Return the image (H, W, 3) resized to ``side`` x ``side``; by default the centre square, antialiased bicubic.

    The same as resizing the short side to ``side`` and cropping the centre, without rounding the crop to whole pixels.
    """
    return np.array(_resize(Image.fromarray(image), Resize.of(resize)))


def _resize(image: Image.Image, resize: Resize) -> Image.Image:
    short = min(image.size)
    left, top = (image.width - short) / 2, (image.height - short) / 2
    box = (0, 0, image.width, image.height) if resize.squash else (left, top, left + short, top + short)
    how = RESAMPLING[resize.interpolation]
    return image.resize((resize.side, resize.side), how, box=box, reducing_gap=3.0)


def to_rgb(image: Image.Image | npt.NDArray[Any]) -> ByteArray:
    """Return a PIL image or a uint8 array (H, W[, 1, 3 or 4]) as RGB (H, W, 3), by the same rules as ``decode``.

    Raises ValueError for an array of another type or shape.
    """
    if isinstance(image, Image.Image):
        return np.array(_rgb(image))
    pixels = image[:, :, None] if image.ndim == 2 else image
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4):
        raise ValueError(f"expected a uint8 array (H, W), (H, W, 3) or (H, W, 4), found {image.shape} {image.dtype}")
    if pixels.shape[2] == 4:
        return np.array(_rgb(Image.fromarray(np.ascontiguousarray(pixels))))
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else np.array(pixels)


def _rgb(image: Image.Image) -> Image.Image:
    with contextlib.suppress(Exception):  # ignore a damaged EXIF block: the pixels are intact
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _check_floats(values: npt.NDArray[np.generic]) -> None:
    """Raise ValueError for floats of another range than 0 to 1, as 0 to 255: clipped, the image would be white."""
    shown = np.asarray(values, dtype=np.float64)
    shown = shown[np.isfinite(shown) & (shown != 0)]  # most of a scan may be a background of zeros
    if len(shown) and np.mean((shown < -FLOAT_SLACK) | (shown > 1 + FLOAT_SLACK)) > FLOATS_OUTSIDE:
        raise ValueError(f"float values from {shown.min():.6g} to {shown.max():.6g}, expected 0 to 1: scale them")


def _eight_bits(values: npt.NDArray[np.generic]) -> ByteArray:
    """Convert grey values to bytes: integers from the range of 16 bits, floats from 0 to 1."""
    if values.dtype.kind == "f":
        _check_floats(values)
        return np.asarray(np.rint(np.clip(np.nan_to_num(values, nan=0.0), 0.0, 1.0) * 255), dtype=np.uint8)
    return np.asarray((np.clip(values, 0, 65535).astype(np.uint32) + 128) // 257, dtype=np.uint8)
