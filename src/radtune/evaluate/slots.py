"""Facts a finding states in words: where it lies across and down the image, its density, its share of the area.

ROUGE hardly notices "left" for "right"; these scores do. Places are English words of the data set's 5 x 5 grid only.
"""

from __future__ import annotations

from functools import lru_cache

from radtune import places
from radtune.language.terms import named

SIGNATURES = {
    "slots": "share in percent of the reference's location and density words that the prediction states too",
    "slot_horizontal": "accuracy (%): left, left-center, central, right-center or right where the reference says",
    "slot_vertical": "accuracy (%): upper, upper-middle, middle, lower-middle or bottom where the reference says",
    "slot_density": "accuracy (%): hyperdense, isodense or hypodense where the reference says",
    "area_error": "mean absolute error of the area in percentage points where both state one (lower is better)",
    "area_missing": "share in percent of predictions without an area where the reference states one (lower is better)",
}


@lru_cache(maxsize=2**16)
def extract(text: str) -> dict[str, str | float | None]:
    """`horizontal`, `vertical` and `density` words and the `area` in percent of the image; None where not stated."""
    text = text.lower()
    density = next((word for word, stated in named(text, "density").items() if stated), None)
    share, words = places.area(text), places.both(text)
    return {
        "horizontal": words.get("horizontal"),
        "vertical": words.get("vertical"),
        "density": density,
        "area": None if share is None else float(share),
    }


def scores(prediction: str, reference: str) -> dict[str, float]:
    """Slot metrics of one pair, only those the reference states."""
    truth, answer = extract(reference), extract(prediction)
    words = {s: 100.0 * (answer[s] == truth[s]) for s in ("horizontal", "vertical", "density") if truth[s] is not None}
    result = {f"slot_{slot}": score for slot, score in words.items()}
    if words:
        result["slots"] = sum(words.values()) / len(words)
    stated, given = truth["area"], answer["area"]
    if isinstance(stated, float):
        result["area_missing"] = 0.0 if isinstance(given, float) else 100.0
        if isinstance(given, float):
            result["area_error"] = abs(given - stated)
    return result
