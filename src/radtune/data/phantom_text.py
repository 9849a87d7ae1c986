"""Say what a phantom shows, in the wording of the data set (six tags) and in the other wording of the practice set.

Every word that carries a fact (place, share of the area, density, size, slice level) is computed from the box and the
slice; only the phrasing around it is drawn by lot, so that no answer is a fixed template.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from radtune.data.phantom_draw import Slice, level_name

TAGS = [
    "JSON_RECORD",
    "DETECT_REGION_LOC",
    "CAPTION",
    "CAPTION_DETAILS",
    "REGION_LOC_DESCRIPTION",
    "REGION_OF_INTEREST",
]
COLUMNS = ["left", "left-center", "central", "right-center", "right"]
ROWS = ["upper", "upper-middle", "middle", "lower-middle", "bottom"]

LANDMARKS = {
    "posterior fossa": ["the cerebellum and the fourth ventricle", "the skull base and the cerebellum"],
    "basal ganglia": ["the thalami and the third ventricle", "the frontal horns and the thalami"],
    "lateral ventricles": ["the bodies of the lateral ventricles", "the lateral ventricles and the falx"],
    "convexity": ["the cortical sulci and the falx", "the white matter and the cortical sulci"],
}
# What lies next to the lesion: towards the front, beside the middle, at its centre, towards the back.
NEIGHBOURS = {
    "posterior fossa": ("frontal lobe", "temporal lobe", "brainstem", "cerebellum"),
    "basal ganglia": ("frontal lobe", "basal ganglia", "thalamus", "occipital lobe"),
    "lateral ventricles": ("frontal lobe", "parietal lobe", "lateral ventricles", "occipital lobe"),
    "convexity": ("frontal lobe", "parietal lobe", "falx", "parietal lobe"),
}
LOOKS = {
    "hyperdense": ["brighter than the surrounding brain tissue", "of higher density than the brain tissue around it"],
    "hypodense": ["darker than the surrounding brain tissue", "of lower density than the brain tissue around it"],
    "isodense": [
        "nearly as bright as the surrounding brain tissue",
        "of the same density as the brain tissue around it",
    ],
}
CAUSES = {
    "hyperdense": ["acute haemorrhage", "fresh blood"],
    "hypodense": ["an ischaemic infarct", "an old infarct"],
    "isodense": ["a subtle mass", "a subacute lesion"],
}
EFFECTS = {
    "small": ["little pressure on", "no clear effect on"],
    "moderate": ["some pressure on", "a mild effect on"],
    "large": ["mass effect on", "displacement of"],
}
NOTES = [
    "Radiologist's review advised.",
    "A follow-up scan is advised.",
    "Please compare with earlier scans.",
    "Clinical correlation is needed.",
]
PRACTICE_PROMPTS = ["Side, height, density, size?", "Box?", "Slice level?", "Tell what you see.", "Fill in the form."]


@dataclass(frozen=True)
class Facts:
    """What the texts may say of one image; `box` is x1, y1, x2, y2 in its pixels, `loc` the same in 0..999."""

    level: str
    horizontal: str
    vertical: str
    side: str  # left, right or midline, of the image
    percent: float  # the box's share of the image, to one decimal
    size: str
    density: str
    rim: bool
    box: tuple[int, int, int, int]
    loc: tuple[int, int, int, int]

    @property
    def neighbour(self) -> str:
        front, beside, centre, back = NEIGHBOURS[self.level]
        if self.vertical == "middle":
            return centre if self.side == "midline" else beside
        return front if ROWS.index(self.vertical) < 2 else back

    @property
    def place(self) -> str:
        return "in the midline" if self.side == "midline" else f"on the {self.side} side"


def state_facts(drawn: Slice) -> Facts:
    height, width = drawn.pixels.shape
    x1, y1, x2, y2 = drawn.box
    horizontal = COLUMNS[min(4, (x1 + x2) * 5 // (2 * width))]
    percent = round((x2 - x1) * (y2 - y1) / (width * height) * 100, 1)
    return Facts(
        level=level_name(drawn.level),
        horizontal=horizontal,
        vertical=ROWS[min(4, (y1 + y2) * 5 // (2 * height))],
        side="midline" if horizontal == "central" else horizontal.split("-")[0],
        percent=percent,
        size="small" if percent < 1 else "moderate" if percent < 3 else "large",
        density=drawn.density,
        rim=drawn.rim,
        box=drawn.box,
        loc=(_quantise(x1, width), _quantise(y1, height), _quantise(x2, width), _quantise(y2, height)),
    )


def _quantise(value: int, size: int) -> int:
    """Florence-2's 0..999 on the original size."""
    return min(max(value * 1000 // size, 0), 999)


def write_texts(facts: Facts, rng: np.random.Generator) -> dict[str, str]:
    """The six texts of one image, by tag; each repeats its tag, as in the data set."""

    def one(options: list[str]) -> str:
        return options[int(rng.integers(len(options)))]

    f, percent = facts, f"{facts.percent:.1f}%"
    look, cause = one(LOOKS[f.density]), one(CAUSES[f.density])
    article = "an" if f.density == "isodense" else "a"
    landmarks = one(LANDMARKS[f.level])
    caption = one(
        [
            f"The image is a non-contrast CT scan of the brain at the level of the {f.level}, showing {landmarks}, "
            f"with a {f.size} {f.density} area {f.place}.",
            f"An axial CT slice at the level of the {f.level} shows {landmarks} and "
            f"a {f.size} {f.density} area {f.place}.",
            f"This is a head CT image at the level of the {f.level}, with {landmarks}. "
            f"There is a {f.size} {f.density} area {f.place}.",
        ]
    )
    region = one(
        [
            f"The region of interest, located {f.horizontal} horizontally and {f.vertical} vertically, occupies "
            f"approximately {percent} of the image area and appears {f.density}.",
            f"The region of interest lies {f.horizontal} horizontally and {f.vertical} vertically. It covers about "
            f"{percent} of the image area and is {f.density}.",
            f"Located {f.horizontal} horizontally and {f.vertical} vertically, the region of interest is {f.density} "
            f"and takes up approximately {percent} of the image area.",
        ]
    )
    observation = one(
        [
            f"The {f.density} area may be {cause}, with {one(EFFECTS[f.size])} the {f.neighbour}.",
            f"This suggests {cause}; there may be {one(EFFECTS[f.size])} the {f.neighbour}.",
            f"This could be {cause} near the {f.neighbour}, with {one(EFFECTS[f.size])} nearby tissue.",
        ]
    )
    rim = " A dark rim of oedema surrounds it." if f.rim else ""
    details = f"{caption} It is {look}, suggesting {cause}.{rim}"
    description = one(
        [
            f"In the {f.vertical}, {f.horizontal} part of the image there is {article} {f.density} area of {percent}, "
            f"next to the {f.neighbour}. It is {look}.",
            f"{article.capitalize()} {f.density} area of {percent} lies in the {f.vertical}, {f.horizontal} part of "
            f"the image, close to the {f.neighbour}. It is {look}.",
        ]
    )
    record = {
        "caption": caption,
        "region of interest": region,
        "observation": observation,
        "notes": one(NOTES),
        "bloc": list(f.box),
    }
    answers = {
        "JSON_RECORD": str(record),
        "DETECT_REGION_LOC": f"{f.density} area" + "".join(f"<loc_{value}>" for value in f.loc),
        "CAPTION": caption,
        "CAPTION_DETAILS": details,
        "REGION_LOC_DESCRIPTION": description,
        "REGION_OF_INTEREST": f"{region}\n<OBSERVATION>\n{observation}",
    }
    return {tag: f"<{tag}>{answers[tag]}" for tag in TAGS}


def write_practice_answers(facts: Facts, rng: np.random.Generator) -> dict[str, str]:
    """Answers to the practice prompts: the data set's words, in sentences and forms that it doesn't use."""

    def one(options: list[str]) -> str:
        return options[int(rng.integers(len(options)))]

    f, percent, where = facts, f"{facts.percent:.1f}%", f"{facts.horizontal}, {facts.vertical}"
    cause, landmarks, effect = one(CAUSES[f.density]), one(LANDMARKS[f.level]), one(EFFECTS[f.size])
    look, rim = one(LOOKS[f.density]), "a dark rim of oedema" if f.rim else "no rim"
    first = [
        f"Look {f.place}, close to the {f.neighbour}. This {f.size} region is {f.density} and has {rim}.",
        f"One axial slice through the {f.level}: there appears to be {cause} {f.place}, {look}.",
        f"Of the brain tissue, an area {f.place} is {look}; {rim} surrounds it.",
        f"A head CT. We see {landmarks} here, and {f.place} a {f.size} {f.density} region, with {rim}.",
        f"What the non-contrast CT scan shows: {landmarks}, at the {f.level} level. The image has a {f.density} part.",
    ]
    second = [
        f"Vertically it is {f.vertical}, horizontally it is {f.horizontal}, and {percent} is the share it takes.",
        f"It occupies {percent}, about the {f.vertical} and {f.horizontal} part of the image area.",
        f"Located in the image: {f.horizontal}, then {f.vertical}. Approximately {percent} is covered.",
        f"The lesion lies {f.vertical} and {f.horizontal}, next to the {f.neighbour}, and covers {percent}.",
    ]
    third = [
        f"It could be {cause}, suggesting {effect} the {f.neighbour}.",
        f"With {effect} nearby tissue, this is of interest: it suggests {cause}.",
        f"There may be {cause}. Near the {f.neighbour} there is {effect} tissue around it.",
        one(NOTES),
    ]
    form = {"level": f.level, "place": where, "area": percent, "look": look, "cause": cause, "advice": one(NOTES)}
    answers = [
        f"{where}, {f.density}, {percent}",
        json.dumps({"box": list(f.loc), "what": f.density}),
        f.level,
        " ".join([one(first), one(second), one(third)]),
        json.dumps(form),
    ]
    return dict(zip(PRACTICE_PROMPTS, answers, strict=True))
