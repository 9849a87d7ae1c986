"""Say what a phantom shows, in the wording of the data set (six tags) and in the other wording of the practice set.

Every word that carries a fact (place, share of the area, density, size, slice level) is computed from the box and the
slice; only the phrasing around it is drawn by lot, so that no answer is a fixed template.
"""

from __future__ import annotations

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
PRACTICE_PROMPTS = ["Side, height, density, size?", "Box?", "Slice level?", "Tell what you see."]


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
    """Answers to the four practice prompts: the data set's words, in sentences that it doesn't use."""
    f, percent = facts, f"{facts.percent:.1f} %"
    where, rim = f"{f.horizontal}, {f.vertical}", ", dark rim of oedema" if f.rim else ""
    cause, landmarks, effect = (
        options[int(rng.integers(len(options)))] for options in (CAUSES[f.density], LANDMARKS[f.level], EFFECTS[f.size])
    )
    tone = {"hyperdense": "brighter", "hypodense": "darker", "isodense": "nearly the same"}[f.density]
    sentences = [
        f"Look {f.place} near the {f.neighbour}: {f.size}, {f.density}{rim}. Place: {where}. Share: {percent}. "
        f"Slice: {f.level}.",
        f"Slice through the {f.level}. One {f.size} lesion, {f.density}{rim}, {where}, beside the {f.neighbour}, "
        f"filling {percent} of the picture.",
        f"{f.density.capitalize()} and {f.size}, {percent}{rim}. We find it {where}, by the {f.neighbour}, "
        f"in a slice through the {f.level}.",
        f"Vertically {f.vertical}, horizontally {f.horizontal}: tissue that appears {tone}, approximately {percent}. "
        f"Its density is {f.density}. Seen in the head: {landmarks}.",
        f"CT scan, {f.level} level, showing {landmarks}. The image area this region occupies: {percent}, {f.size}. "
        f"Could it be {cause}? Yes, for it is {f.density}.",
        f"Of interest {f.place} of the brain: {cause}, so {effect} the surrounding {f.neighbour}. Located {where}, "
        f"it takes up about {percent}; {f.density}, {tone} in tone{rim}.",
    ]
    answers = [
        f"{where}, {f.density}, {percent}",
        " ".join(map(str, f.loc)),
        f.level,
        sentences[int(rng.integers(len(sentences)))],
    ]
    return dict(zip(PRACTICE_PROMPTS, answers, strict=True))
