"""How LLaMA-Factory resizes a picture before the model's own processor does, in training and so in prediction."""

from __future__ import annotations

import math
from collections.abc import Iterator

IMAGE = "<image>"  # its placeholder in a text
SHORTEST, LONGEST_RATIO, CUT_RATIO = 28, 200, 180  # shortest side in pixels, longest side over it, what that becomes


def resizes(width: int, height: int, most: int, least: int) -> Iterator[tuple[int, int]]:
    """The (width, height) in pixels of each resize in turn, none for a picture that stays as it is.

    Into `least`..`most` pixels in all, then not too narrow: LLaMA-Factory 0.9.5, Qwen2VLPlugin._preprocess_image.
    """
    if width * height > most:
        width, height = _scaled(width, height, most)
        yield width, height
    if width * height < least:
        width, height = _scaled(width, height, least)
        yield width, height
    if min(width, height) < SHORTEST:
        width, height = max(width, SHORTEST), max(height, SHORTEST)
        yield width, height
    if width > height * LONGEST_RATIO:
        width = height * CUT_RATIO
        yield width, height
    if height > width * LONGEST_RATIO:
        height = width * CUT_RATIO
        yield width, height


def _scaled(width: int, height: int, pixels: int) -> tuple[int, int]:
    factor = math.sqrt(pixels / (width * height))
    return int(width * factor), int(height * factor)
