"""CLAHE, contrast-limited adaptive histogram equalisation (Zuiderveld 1994), as OpenCV computes it.

OpenCV's takes longer than anything else that is done to an image. Where .venv was set up beside a C compiler, clahe.c
does it, with the same pixels in half of the time; elsewhere OpenCV.
"""

from __future__ import annotations

import ctypes
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import cv2
import numpy as np

from radtune.images.read import Pixels

_LEVELS = 256


def _load() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(str(Path(__file__).with_name(f"_clahe{EXTENSION_SUFFIXES[0]}")))
    except OSError:
        return None
    array, number = ctypes.c_void_p, ctypes.c_int
    library.clahe.argtypes = [array, ctypes.c_long, *[number] * 4, array, array, number, number]
    library.clahe.restype = None
    return library


COMPILED = _load()


def clahe(grey: Pixels, clip_limit: float, tiles: int) -> Pixels:
    """`grey` (height x width) with its contrast spread in tiles x tiles tiles, whose means join; `clip_limit`, above 0,
    times the pixels that a level would have in a tile of evenly spread levels, is the most that count for one.
    """
    if COMPILED is None:
        return np.asarray(cv2.createCLAHE(clip_limit, (tiles, tiles)).apply(grey), np.uint8)
    height, width = grey.shape
    whole = np.ascontiguousarray(grey)
    if height % tiles or width % tiles:  # in both directions, as OpenCV does
        below, right = tiles - height % tiles, tiles - width % tiles
        whole = cv2.copyMakeBorder(whole, 0, below, 0, right, cv2.BORDER_REFLECT_101)
    tile_height, tile_width = whole.shape[0] // tiles, whole.shape[1] // tiles
    pixels = tile_width * tile_height
    limit = min(pixels, max(1, int(clip_limit * pixels / _LEVELS)))
    maps, out = np.empty((tiles, tiles, _LEVELS), np.uint8), np.empty_like(whole, shape=grey.shape)
    data = [array.ctypes.data for array in (whole, maps, out)]
    COMPILED.clahe(data[0], whole.strides[0], tiles, tile_width, tile_height, limit, *data[1:], width, height)
    return out
