"""What a text may not hold, since a model or a reader would obey it rather than read it."""

from __future__ import annotations

import re

# Qwen's special tokens, and the placeholders that LLaMA-Factory replaces by pixels
_TOKEN = re.compile(
    r"<(?:\|[A-Za-z0-9_.-]{1,64}\|>|(?:image|video|audio)>|/?(?:think|tools?|tool_call|tool_response)>)"
)
# What no answer shows but a reader obeys: control characters, line and paragraph separators, bidirectional overrides,
# lone surrogates (no file can hold them), tag letters. None of them counts as printable.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\U000e0000-\U000e007f]")


def obeyed(text: str) -> bool:
    """Whether `text` holds a chat control token, a media placeholder or a control character."""
    return bool(_TOKEN.search(text) or (not text.isprintable() and _HIDDEN.search(text)))


def neutral(text: str) -> str:
    """`text` with hidden characters left out and angle brackets of tokens made typographic, ‹|im_end|›, to be read."""
    return _TOKEN.sub(lambda found: f"‹{found[0][1:-1]}›", _HIDDEN.sub("", text))
