"""Small real images for the tests of the data room: gradients with noise, written by Pillow."""

from __future__ import annotations

import io
import struct
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def photo(seed: int, width: int = 24, height: int = 20) -> np.ndarray:
    """Return an image (H, W, 3), uint8, that no other seed gives."""
    random = np.random.default_rng(seed)
    ramp = (
        np.linspace(0, 200, width)[None, :, None] * random.uniform(0.3, 1, 3)
        + np.linspace(0, 50, height)[:, None, None]
    )
    return np.clip(ramp + random.normal(0, 8, (height, width, 3)), 0, 255).astype(np.uint8)


def encoded(image: np.ndarray | Image.Image, form: str = "JPEG", **options: object) -> bytes:
    """Return an image as the content of a file."""
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, form, **options)
    return buffer.getvalue()


def jpeg(seed: int) -> bytes:
    """Return the content of a JPEG file."""
    return encoded(photo(seed))


def write(root: Path, contents: Mapping[str, bytes]) -> Path:
    """Write files below ``root``, and return it."""
    for name, content in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def two_classes(prefix: str = "", each: int = 3, start: int = 0) -> dict[str, bytes]:
    """Return the files ``<prefix>cat/0.jpg`` ... ``<prefix>dog/2.jpg``."""
    names = [f"{prefix}{name}/{i}.jpg" for name in ("cat", "dog") for i in range(each)]
    return {name: jpeg(start + i) for i, name in enumerate(names)}


def pack(path: Path, contents: Mapping[str, bytes], mode: str = "w", extra: Iterable[tarfile.TarInfo] = ()) -> Path:
    """Write a tar of files and of further members without content, and return its path."""
    with tarfile.open(path, mode) as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in extra:
            tar.addfile(member)
    return path


def tiff(bands: int, bits: int = 8) -> bytes:
    """Return a TIFF of 4 x 4 pixels with a number of bands that Pillow may have no form for."""
    pixels = bytes(4 * 4 * bands * bits // 8)
    width_of_bits = struct.pack("<" + "H" * bands, *[bits] * bands)
    tags = [(256, 3, 1, 4), (257, 3, 1, 4), (258, 3, bands, 8), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 100),
            (277, 3, 1, bands), (278, 3, 1, 4), (279, 4, 1, len(pixels))]  # fmt: skip
    start = 100 + len(pixels)
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    head = b"II*\0" + struct.pack("<I", start) + width_of_bits
    return head.ljust(100, b"\0") + pixels + directory
