"""One DICOM file to 8-bit grey frames: rescale, window, invert, black padding, square pixels. Used by `import-dicom`.

Every way to fail is an Unusable that says nothing of what the header holds; its cause is the exception at fault.
"""

from __future__ import annotations

import io
import math
import re
import struct
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.filereader import read_dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi, apply_windowing
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)

from radtune.reasons import Reason, Unusable

# (level, width) in HU. Source: Radiopaedia, "Windowing (CT)", doi.org/10.53347/rID-52108; the middle of a range there
PRESETS = {
    "brain": (40, 80),
    "subdural": (75, 215),  # L 50-100, W 130-300
    "stroke": (40, 40),
    "bone": (600, 2800),  # its temporal bones
    "soft": (40, 375),  # its head and neck: L 20-60, W 350-400
}
MAX_PIXELS = 32_000_000  # of an image, as in the stages that follow; a decompression bomb is larger
MAX_BYTES = 2**30  # of a file, inflated too: it is held in memory
SPACING_TOLERANCE = 0.01  # the letterbox that follows takes pixels for square
# What became of an image's window where it is not the one asked for
ASSUMED_BRAIN = "without a window in the header, shown under the brain window"
ASSUMED_RANGE = "without a window in the header and not in HU, shown over its own range of values"
NOT_HU = "not in HU, shown under the header's window instead"

# A data set without preamble starts with group 0002 or 0008; a stray byte before it has been seen
_BARE = re.compile(rb"(.?)[\x02\x08]\x00.\x00", re.DOTALL)
_JPEG_FRAMES = {*range(0xC0, 0xD0), 0xDE, 0xF7} - {0xC4, 0xC8, 0xCC}  # markers that are followed by the size
_MONOCHROME = ("MONOCHROME1", "MONOCHROME2")

Grey = npt.NDArray[np.uint8]
Values = npt.NDArray[Any]


def read_dicom(path: Path, pixels: bool = True) -> Dataset | None:
    """The data set of a DICOM file, with or without preamble; None where the file is no DICOM or a DICOMDIR."""
    try:
        with path.open("rb") as file:
            head = file.read(132)
            bare = _BARE.match(head) if head[128:] != b"DICM" else None
            if head[128:] != b"DICM" and not bare:
                return None
            if path.stat().st_size > MAX_BYTES:
                raise Unusable(Reason.IMAGE_TOO_LARGE)
            if not bare:
                _check_inflated_size(file)
            file.seek(bare.end(1) if bare else 0)
            source = io.BytesIO(file.read()) if bare else file  # pydicom rewinds to 0
            header = pydicom.dcmread(source, stop_before_pixels=not pixels, force=True)
        if "TransferSyntaxUID" not in header.file_meta:
            implicit, little = header.original_encoding
            explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
            header.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
        if bare and "SOPClassUID" not in header and "Rows" not in header:
            return None
    except Unusable:
        raise
    except Exception as error:
        raise Unusable(Reason.DICOM_UNREADABLE) from error
    directory = header.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage
    return None if directory or "DirectoryRecordSequence" in header else header


def _check_inflated_size(file: BinaryIO) -> None:
    """Refuse a deflated data set that would fill the memory: pydicom inflates it at once."""
    meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        inflate, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while size <= MAX_BYTES and (chunk := file.read(2**16)):
            size += len(inflate.decompress(chunk))
        if size > MAX_BYTES:
            raise Unusable(Reason.IMAGE_TOO_LARGE)


def read_frames(header: Dataset, window: str) -> Iterator[tuple[Grey, str]]:
    """(height x width, 0..255; what became of its window, or "") of each frame; `window`: header or one of PRESETS."""
    try:
        frames = _check(header)
        n = 0
        for frame in iter_pixels(header):
            yield _to_grey(frame, _of_frame(header, n), window)
            n += 1
        if n != frames:
            raise Unusable(Reason.PIXELS_UNREADABLE)
    except Unusable:
        raise
    except Exception as error:
        raise Unusable(Reason.PIXELS_UNREADABLE) from error


def _check(header: Dataset) -> int:
    """The number of frames, once it is known that decoding them is wanted, possible and safe."""
    if not any(name in header for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise Unusable(Reason.PIXELS_MISSING)
    if str(header.get("BurnedInAnnotation", "")).strip().upper() == "YES":
        raise Unusable(Reason.BURNED_IN_TEXT)
    rows, columns, frames = int(header.Rows), int(header.Columns), int(header.get("NumberOfFrames") or 1)
    if rows * columns > MAX_PIXELS:
        raise Unusable(Reason.IMAGE_TOO_LARGE)
    syntax = header.file_meta.TransferSyntaxUID
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        raise Unusable(Reason.SYNTAX_UNSUPPORTED)
    if syntax.is_encapsulated:  # the header's size does not bind the decoder: a small stream can unfold to gigabytes
        for stream in generate_frames(header.PixelData, number_of_frames=frames):
            size = _stream_size(stream)
            if size and size != (rows, columns):
                raise Unusable(Reason.IMAGE_TOO_LARGE if math.prod(size) > MAX_PIXELS else Reason.PIXELS_UNREADABLE)
    return frames


def _stream_size(stream: bytes) -> tuple[int, int] | None:
    """(rows, columns) that a JPEG, JPEG-LS or JPEG 2000 stream states; None for RLE, decoded by the header.

    Read here, as the decoders' own look at a stream unfolds it. Layout: ITU-T T.81 B.2.2, T.87 C.2.2, T.800 A.5.1.
    """
    codestream = stream.find(b"\xff\x4f\xff\x51") if stream.startswith((b"\xff\x4f", b"\x00\x00\x00\x0cjP")) else -1
    if codestream >= 0:
        right, bottom, left, top = struct.unpack_from(">4I", stream, codestream + 8)
        return bottom - top, right - left
    if not stream.startswith(b"\xff\xd8"):
        return None
    if b"\xff\xd9" not in stream[-64:]:  # it breaks off (padding may follow the end): the decoder would invent the rest
        raise Unusable(Reason.PIXELS_UNREADABLE)
    at = 2
    while stream[at + 1] not in _JPEG_FRAMES:
        at += 1 if stream[at + 1] == 0xFF else 2 + int.from_bytes(stream[at + 2 : at + 4])
    rows, columns = struct.unpack_from(">HH", stream, at + 5)
    return rows, columns


def _of_frame(header: Dataset, n: int) -> Dataset:
    """What a frame's grey values depend on: the header, overruled by the functional groups of an enhanced object."""
    flat = Dataset()
    flat.file_meta = header.file_meta
    flat.set_original_encoding(*header.original_encoding)
    for element in header.group_dataset(0x0028):
        flat[element.tag] = element
    for name in ("Modality", "ImagerPixelSpacing"):
        if name in header:
            flat[name] = header[name]
    shared = header.get("SharedFunctionalGroupsSequence") or []
    own = header.get("PerFrameFunctionalGroupsSequence") or []
    for groups in (*shared[:1], *own[n : n + 1]):
        for name in ("PixelValueTransformationSequence", "FrameVOILUTSequence", "PixelMeasuresSequence"):
            for element in chain.from_iterable(groups.get(name) or []):
                flat[element.tag] = element
    return flat


def _to_grey(frame: Values, look: Dataset, window: str) -> tuple[Grey, str]:
    photometric, note = str(look.PhotometricInterpretation), ""
    if photometric in _MONOCHROME:
        padding = _padding(frame, look)
        values, note = _apply_window(apply_modality_lut(frame, look), look, window, padding)
        grey = np.rint(values).astype(np.uint8)
        if photometric == "MONOCHROME1":
            grey = 255 - grey
        grey[padding] = 0
    else:
        bits = int(look.BitsStored)
        if photometric == "PALETTE COLOR":
            frame = apply_color_lut(frame, look)[..., :3]
            bits = frame.dtype.itemsize * 8
        if frame.ndim != 3 or frame.shape[2] != 3:
            raise Unusable(Reason.PIXELS_UNREADABLE)
        grey = cv2.cvtColor((frame >> max(bits - 8, 0)).astype(np.uint8), cv2.COLOR_RGB2GRAY)
    return _make_square(grey, look), note


def _padding(frame: Values, look: Dataset) -> npt.NDArray[np.bool_]:
    """Where there is no image: PixelPaddingValue, up to PixelPaddingRangeLimit, both in stored values."""
    value = look.get("PixelPaddingValue")
    if value is None or not np.issubdtype(frame.dtype, np.integer):
        return np.zeros(frame.shape, bool)
    limit = look.get("PixelPaddingRangeLimit")
    # some writers store a signed value as unsigned or the other way round: the cast wraps it
    low, high = np.sort(np.array([value, value if limit is None else limit], np.int64).astype(frame.dtype))
    inside: npt.NDArray[np.bool_] = (frame >= low) & (frame <= high)
    return inside


def _apply_window(
    values: Values, look: Dataset, window: str, padding: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float64], str]:
    """Values after the modality LUT to 0..255, and what became of the window that was asked for."""
    hounsfield = str(look.get("RescaleType") or ("HU" if look.get("Modality") == "CT" else "")) == "HU"
    if window != "header" and hounsfield:
        return _stretch(values, *PRESETS[window]), ""
    note = "" if window == "header" else NOT_HU
    if look.get("VOILUTSequence"):
        return _apply_table(values, look), note
    level, width = (_first_number(look.get(name)) for name in ("WindowCenter", "WindowWidth"))
    function = str(look.get("VOILUTFunction") or "LINEAR").strip().upper()
    if level is not None and width is not None and width >= (1 if function == "LINEAR" else 1e-6):
        return _stretch(values, level, width, function), note
    if hounsfield:
        return _stretch(values, *PRESETS["brain"]), ASSUMED_BRAIN
    inside = values[~padding] if not padding.all() else values
    low, high = (float(value) for value in np.percentile(inside, (0.5, 99.5)))  # without the few hottest pixels
    return _stretch(values, (low + high) / 2, max(high - low, 1e-6), "LINEAR_EXACT"), ASSUMED_RANGE


def _stretch(values: Values, level: float, width: float, function: str = "LINEAR") -> npt.NDArray[np.float64]:
    """The window by the standard's own arithmetic (PS3.3 C.11.2.1.2), onto 0..255, as pydicom does it for 8 bits."""
    scale = Dataset()
    scale.PhotometricInterpretation, scale.BitsStored, scale.PixelRepresentation = "MONOCHROME2", 8, 0
    scale.WindowCenter, scale.WindowWidth, scale.VOILUTFunction = level, width, function
    return apply_windowing(values, scale)


def _apply_table(values: Values, look: Dataset) -> npt.NDArray[np.float64]:
    item = look.VOILUTSequence[0]
    entries, first, bits = item.LUTDescriptor
    item.LUTDescriptor = [entries, first, 16]  # for 8 bits pydicom looks up by an 8-bit index, whatever the entries
    table = apply_voi(np.rint(values).astype(np.int64), look)
    item.LUTDescriptor = [entries, first, bits]
    scaled: npt.NDArray[np.float64] = np.minimum(table / (2**bits - 1), 1) * 255
    return scaled


def _first_number(value: Any) -> float | None:
    """The first of one or several numbers (the first window is the one to show first), None where there is none."""
    try:
        number = float(value if isinstance(value, str | float | int) else value[0])
    except (TypeError, ValueError, IndexError):
        return None
    return number if math.isfinite(number) else None


def _make_square(grey: Grey, look: Dataset) -> Grey:
    """Resampled along the coarser axis where the pixels are not square, so that nothing is thrown away."""
    names = ("PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio")  # each: between rows, between columns
    spacing = next((look.get(name) for name in names if look.get(name)), None)
    try:
        between_rows, between_columns = (float(value) for value in spacing or (1, 1))
        ratio = between_rows / between_columns
    except (TypeError, ValueError, ZeroDivisionError):
        return grey
    if not (math.isfinite(ratio) and ratio > 0) or max(ratio, 1 / ratio) <= 1 + SPACING_TOLERANCE:
        return grey
    height, width = grey.shape
    size = (width, round(height * ratio)) if ratio > 1 else (round(width / ratio), height)
    if math.prod(size) > MAX_PIXELS:
        raise Unusable(Reason.IMAGE_TOO_LARGE)
    square: Grey = cv2.resize(grey, size, interpolation=cv2.INTER_CUBIC)
    return square
