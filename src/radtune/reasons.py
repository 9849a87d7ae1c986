"""Why a row is not used: the codes in quarantine.jsonl, each with its sentence."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Self

RECORD_KEYS = ("caption", "region of interest", "observation", "notes", "bloc")
MAX_CHARS = 20_000  # a text beyond this is no answer; it also bounds the literal parser


class Code(StrEnum):
    """Codes for files, each with a `sentence` that says it to a person."""

    sentence: str

    def __new__(cls, code: str, sentence: str) -> Self:
        member = str.__new__(cls, code)
        member._value_ = code
        member.sentence = sentence
        return member


class Reason(Code):
    """Why a row is not used. The value is the code in `quarantine.jsonl`."""

    ID_MISSING = "id_missing", "The row has no id."
    DUPLICATE = "duplicate", "Another row has the same id and tag."
    TAG_MISSING = "tag_missing", "The row has no question tag."
    TAG_UNKNOWN = "tag_unknown", "The question is none of the known tags."
    TEXT_MISSING = "text_missing", "The row has no text."
    TEXT_TOO_LONG = "text_too_long", f"The text is longer than {MAX_CHARS} characters."
    TAG_NOT_IN_TEXT = "tag_not_in_text", "The text does not repeat the question's tag."
    TAG_REPEATED = "tag_repeated", "The text repeats the question's tag, so which answer is meant is unclear."
    ANSWER_EMPTY = "answer_empty", "Nothing follows the tag."
    CONTROL_TOKEN = (
        "control_token",
        "The answer holds a chat control token, a media placeholder or a control character.",
    )
    RECORD_UNPARSABLE = "record_unparsable", "The record is neither a Python dict literal nor JSON."
    RECORD_INCOMPLETE = "record_incomplete", f"The record lacks a value for one of: {', '.join(RECORD_KEYS[:4])}."
    BOX_UNPARSABLE = "box_unparsable", "No coordinates of a known form were found."
    BOX_IMPOSSIBLE = "box_impossible", "The coordinates are out of range or their corners are swapped."
    BOX_UNSETTLED = (
        "box_unsettled",
        "The coordinates' frame is unknown, and no single reading agrees with the rectangle in the pixels.",
    )
    IMAGE_MISSING = "image_missing", "The row has no image bytes."
    IMAGE_UNREADABLE = "image_unreadable", "The image cannot be decoded in full."
    IMAGE_TOO_LARGE = "image_too_large", "The image has more pixels than is safe to decode."
    IMAGE_TOO_SMALL = "image_too_small", "The image is too small to show anything."
    DICOM_UNREADABLE = "dicom_unreadable", "The DICOM header cannot be read."
    PIXELS_MISSING = "pixels_missing", "The DICOM file holds no pixel data, or breaks off in them."
    PIXELS_UNREADABLE = "pixels_unreadable", "The pixel data are cut off, damaged or contradict the DICOM header."
    SYNTAX_UNSUPPORTED = "syntax_unsupported", "No decoder is installed for the DICOM transfer syntax."
    BURNED_IN_TEXT = "burned_in_text", "The DICOM header says that text, perhaps a name, is burned into the pixels."
    INSTANCE_REPEATED = "instance_repeated", "Another file holds the same image (its SOP Instance UID)."


class Unusable(Exception):
    """A row that cannot be used; carries the Reason, and in `parts` what was understood of it, if anything."""

    def __init__(self, reason: Reason, parts: dict[str, Any] | None = None):
        super().__init__(reason.sentence)
        self.reason = reason
        self.parts = parts
