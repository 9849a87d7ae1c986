"""Boxes that know their frame, and how they move with the letterbox between an original and what the model sees.

Edges are x1, y1, x2, y2. A box found in the pixels has inclusive outer edges in original pixels. Qwen3-VL grounds in
0..1000 of the image as given, that is of the letterboxed one; Florence-2 quantises to 0..999.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

Edges = tuple[float, float, float, float]


class Letterbox(NamedTuple):
    """A width x height image scaled to fit a size x size canvas, centred: x' = x * new_width / width + left."""

    width: int
    height: int
    size: int
    new_width: int
    new_height: int
    left: int
    top: int


class Frame(StrEnum):
    ORIGINAL = "original pixels"
    LETTERBOXED = "letterboxed pixels"
    THOUSANDTHS = "thousandths of the letterboxed picture"


@dataclass(frozen=True, slots=True)
class Box:
    """A box with an area, in one frame; a conversion from another frame than its own raises ValueError."""

    x1: float
    y1: float
    x2: float
    y2: float
    frame: Frame = Frame.ORIGINAL

    def __post_init__(self) -> None:
        if not (self.x1 < self.x2 and self.y1 < self.y2):
            raise ValueError(f"{self.edges} in {self.frame} is no box: its corners are swapped or it has no area.")

    @classmethod
    def of(cls, edges: Iterable[float], frame: Frame = Frame.ORIGINAL) -> Box:
        x1, y1, x2, y2 = edges
        return cls(x1, y1, x2, y2, frame)

    @property
    def edges(self) -> Edges:
        return self.x1, self.y1, self.x2, self.y2

    @property
    def centre(self) -> tuple[float, float]:
        return (self.x1 + self.x2) / 2, (self.y1 + self.y2) / 2

    @property
    def area(self) -> float:
        return (self.x2 - self.x1) * (self.y2 - self.y1)

    def edges_in(self, *frames: Frame) -> Edges:
        if self.frame not in frames:
            raise ValueError(f"The box is in {self.frame}, where {' or '.join(frames)} are needed.")
        return self.edges

    @classmethod
    def from_loc(cls, loc: Sequence[int], width: int, height: int) -> Box:
        """From Florence-2's 0..999 of a width x height original, to the middle of each quantisation step."""
        x1, y1, x2, y2 = loc
        return cls.of((q + 0.5) * v / 1000 for q, v in ((x1, width), (y1, height), (x2, width), (y2, height)))

    def scaled(self, place: Letterbox) -> Box:
        """From original to letterboxed pixels."""
        x1, y1, x2, y2 = self.edges_in(Frame.ORIGINAL)
        # multiplied first, so that the picture's own edge stays exactly on it
        xs = [x * place.new_width / place.width + place.left for x in (x1, x2)]
        ys = [y * place.new_height / place.height + place.top for y in (y1, y2)]
        return Box(xs[0], ys[0], xs[1], ys[1], Frame.LETTERBOXED)

    def unscaled(self, place: Letterbox) -> Box:
        """From letterboxed back to original pixels."""
        x1, y1, x2, y2 = self.edges_in(Frame.LETTERBOXED)
        xs = [(x - place.left) * place.width / place.new_width for x in (x1, x2)]
        ys = [(y - place.top) * place.height / place.new_height for y in (y1, y2)]
        return Box(xs[0], ys[0], xs[1], ys[1])

    def to_thousandths(self, place: Letterbox) -> Box:
        """From letterboxed pixels to 0..1000 of the letterboxed picture."""
        return Box.of((v * 1000 / place.size for v in self.edges_in(Frame.LETTERBOXED)), Frame.THOUSANDTHS)

    def from_thousandths(self, place: Letterbox) -> Box:
        """From 0..1000 of the letterboxed picture to letterboxed pixels."""
        return Box.of((v * place.size / 1000 for v in self.edges_in(Frame.THOUSANDTHS)), Frame.LETTERBOXED)

    def to_loc(self, place: Letterbox) -> list[int]:
        """Florence-2's 0..999 of the picture whose pixels the box is in, the original or the letterboxed one."""
        edges = self.edges_in(Frame.ORIGINAL, Frame.LETTERBOXED)
        sides = (place.width, place.height) if self.frame == Frame.ORIGINAL else (place.size, place.size)
        return whole([int(v * 1000 // side) for v, side in zip(edges, sides * 2, strict=True)], 999)

    def clamped(self, width: int, height: int) -> Box:
        """The part inside the width x height original; ValueError where there is none."""
        x1, y1, x2, y2 = self.edges_in(Frame.ORIGINAL)
        return Box(max(0, x1), max(0, y1), min(width, x2), min(height, y2))


def whole(steps: list[int], last: int) -> list[int]:
    """Whole numbers within 0..last, opposite edges at least one step apart so that a thin box stays a box."""
    x1, y1, x2, y2 = steps
    x1, y1 = (min(max(0, v), last - 1) for v in (x1, y1))
    return [x1, y1, min(max(x1 + 1, x2), last), min(max(y1 + 1, y2), last)]


def iou(a: Box, b: Box) -> float:
    """Intersection over union, 0 to 1, of two boxes of one frame."""
    ax1, ay1, ax2, ay2 = a.edges
    bx1, by1, bx2, by2 = b.edges_in(a.frame)
    shared = max(0.0, min(ax2, bx2) - max(ax1, bx1)) * max(0.0, min(ay2, by2) - max(ay1, by1))
    return shared / (a.area + b.area - shared)


def read_geometry(paths: Sequence[Path]) -> Iterator[tuple[str, str, Letterbox]]:
    """Of each image in the shards' geometry: its sha256, its SHARD/FILE in the recipe's folder, its letterbox."""
    import pyarrow.parquet as pq

    names = ["image_sha256", "file", *Letterbox._fields]
    for path in sorted(paths):
        with pq.ParquetFile(path) as shard:
            table = shard.read(names)
        for sha256, file, *numbers in zip(*(table[name].to_pylist() for name in names), strict=True):
            yield sha256, f"{path.stem}/{file}", Letterbox(*numbers)
