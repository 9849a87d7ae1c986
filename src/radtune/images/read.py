"""Image bytes to pixels, in full or not at all."""

from __future__ import annotations

import io
import warnings

import numpy as np
import numpy.typing as npt
from PIL import Image

from radtune.reasons import Reason, Unusable

Pixels = npt.NDArray[np.uint8]
MAX_PIXELS = 64_000_000  # four times the largest radiograph; a decompression bomb is larger
MIN_SIDE = 16  # one patch of the vision tower


def open_image(data: bytes) -> Image.Image:
    """An image whose header is read and whose size is sane; its pixels are decoded on use. Raises Unusable."""
    if not data:
        raise Unusable(Reason.IMAGE_MISSING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data))
    except Image.DecompressionBombError:
        raise Unusable(Reason.IMAGE_TOO_LARGE) from None
    except Exception:
        raise Unusable(Reason.IMAGE_UNREADABLE) from None
    if image.width * image.height > MAX_PIXELS:
        raise Unusable(Reason.IMAGE_TOO_LARGE)
    if min(image.size) < MIN_SIDE:
        raise Unusable(Reason.IMAGE_TOO_SMALL)
    return image


def rgb(image: Image.Image) -> Pixels:
    """Height x width x 3, 0..255. 16-bit greys are scaled by their own range, transparency is laid on black."""
    try:
        if image.mode.startswith("I") or image.mode == "F":
            grey = np.asarray(image, np.float64)
            low, high = float(grey.min()), float(grey.max())
            scaled = ((grey - low) * (255 / max(high - low, 1e-9))).round().astype(np.uint8)
            return np.repeat(scaled[..., None], 3, axis=2)
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            over = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", over.size, (0, 0, 0, 255)), over)
        return np.asarray(image.convert("RGB"))
    except Exception:
        raise Unusable(Reason.IMAGE_UNREADABLE) from None
