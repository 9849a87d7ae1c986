"""Image bytes to pixels, in full or not at all."""

from __future__ import annotations

import ctypes
import io
import warnings
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from radtune.reasons import Reason, Unusable

Pixels = npt.NDArray[np.uint8]
MAX_PIXELS = 32_000_000  # twice the largest radiograph, and what scan_shard's memory holds; a bomb is larger
_STRIP = 2**20  # pixels
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "JPEG2000", "PPM")  # none of them starts a program
MIN_SIDE = 16  # one patch of the vision tower
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_JPEG = b"\xff\xd8"
_JPEG_MODES = {"YCbCr": ("RGB", "RGB"), "RGB": ("RGB", "RGB"), "Gray": ("L", "GRAY")}  # Pillow's mode, simplejpeg's
warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_PIXELS says what is too large


def set_up_process() -> None:
    """One thread, as one process a core is the workflow's business; and, with glibc, freed memory kept for the next
    picture: handing it back each time costs hundreds of page faults a picture, a seventh of all time.
    """
    cv2.setNumThreads(1)
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(_M_TRIM_THRESHOLD, 2**28)
        mallopt(_M_MMAP_THRESHOLD, 2**26)


class Picture(NamedTuple):
    """Decoded pixels: height x width x 3 (RGB), or height x width where the file is grey; `mode` is Pillow's."""

    pixels: Pixels
    mode: str


def decode(data: bytes) -> Picture:
    """The picture in `data`; raises Unusable where it is missing, broken, cut short, or of an unsafe size.

    16-bit greys are scaled by their own range, transparency is laid on black. Orientation tags are ignored, since the
    boxes belong to the pixels as they are stored.
    """
    if not data:
        raise Unusable(Reason.IMAGE_MISSING)
    if data.startswith(_JPEG):  # simplejpeg takes a third of Pillow's time, and is as strict
        try:
            height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        except ValueError:
            raise Unusable(Reason.IMAGE_UNREADABLE) from None
        _check_size(width, height)
        if colours in _JPEG_MODES:
            mode, kind = _JPEG_MODES[colours]
            try:
                pixels = simplejpeg.decode_jpeg(data, kind)
            except ValueError:
                raise Unusable(Reason.IMAGE_UNREADABLE) from None
            return Picture(pixels if mode == "RGB" else pixels[..., 0], mode)
    image = _open(data)
    try:
        return Picture(_pixels(image), image.mode)
    except Exception:  # whatever a codec raises on broken data
        raise Unusable(Reason.IMAGE_UNREADABLE) from None


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise Unusable(Reason.IMAGE_TOO_LARGE)
    if min(width, height) < MIN_SIDE:
        raise Unusable(Reason.IMAGE_TOO_SMALL)


def to_grey(pixels: Pixels) -> Pixels:
    """Height x width, 0..255."""
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8) if pixels.ndim == 3 else pixels


def _open(data: bytes) -> Image.Image:
    """An image whose header is read and whose size is sane; its pixels are decoded on use."""
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError:
        raise Unusable(Reason.IMAGE_TOO_LARGE) from None
    except Exception:
        raise Unusable(Reason.IMAGE_UNREADABLE) from None
    _check_size(*image.size)
    return image


def _pixels(image: Image.Image) -> Pixels:
    """Height x width, or height x width x 3. In strips, as Pillow holds four bytes a pixel and copies at each step."""
    deep = image.mode.startswith("I") or image.mode == "F"
    clear = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    grey = deep or (image.mode in ("L", "1") and not clear)
    width, height = image.size
    starts = range(0, height, step := max(1, _STRIP // width))
    image.load()

    def strip(top: int) -> Image.Image:
        return image.crop((0, top, width, min(height, top + step)))

    def values(top: int) -> npt.NDArray[np.float64]:
        return np.nan_to_num(np.asarray(strip(top), np.float64))

    if deep:
        ends = [(float(part.min()), float(part.max())) for part in map(values, starts)]
        low, high = min(first for first, _ in ends), max(last for _, last in ends)
    pixels = np.empty((height, width) if grey else (height, width, 3), np.uint8)
    for top in starts:
        if deep:
            part: Any = ((values(top) - low) * (255 / max(high - low, 1e-9))).round()
        elif clear:
            over = strip(top).convert("RGBA")
            part = Image.alpha_composite(Image.new("RGBA", over.size, (0, 0, 0, 255)), over).convert("RGB")
        else:
            part = strip(top).convert("L" if grey else "RGB")
        pixels[top : top + step] = np.asarray(part)
    return pixels
