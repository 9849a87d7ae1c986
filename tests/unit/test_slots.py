"""Slots read from sentences as the data set writes them, and scores that notice a swapped side."""

import pytest

from radtune.evaluate.slots import extract, scores

FINDING = (
    "The region of interest, located left-center horizontally and in the upper-middle vertically, occupies "
    "approximately 1.3% of the image area and shows a hyperdense area."
)


@pytest.mark.parametrize(
    ("text", "horizontal", "vertical", "density", "area"),
    [
        (FINDING, "left-center", "upper-middle", "hyperdense", 1.3),
        ("positioned centrally horizontally and in the middle vertically", "central", "middle", None, None),
        ("Horizontally it is right-center and vertically bottom.", "right-center", "bottom", None, None),
        ("situated in the right and lower-middle part of the image", "right", "lower-middle", None, None),
        # A side that names anatomy, or none in particular, is not where the region lies.
        ("The left hemisphere has a lesion located left-center and upper", "left-center", "upper", None, None),
        ("A lesion located in the left hemisphere, right-center of the image", "right-center", None, None, None),
        ("Midline shift to the right; the middle cerebral artery is spared.", None, None, None, None),
        ("The central nervous system is shown.", None, None, None, None),
        # Without "located", only a compound or a word of place counts.
        ("A hypodense lesion in the upper left region", "left", "upper", "hypodense", None),
        ("A mass, left-center, lower-middle", "left-center", "lower-middle", None, None),
        ("located at the left center and the top", "left-center", "upper", None, None),
        ("No hyperdense area; an iso-dense mass", None, None, "isodense", None),
        ("without a hypodensity, hyperdensity seen", None, None, "hyperdense", None),
        ("covering about 12 percent of the picture", None, None, None, 12.0),
        ("area ratio: 0.8％", None, None, None, 0.8),
        ("with 90% confidence", None, None, None, None),
        ("It covers 3.4 % of the image.", None, None, None, 3.4),
        ("It covers 3,4% of the image.", None, None, None, 3.4),
        ("about 3 per cent of the area", None, None, None, 3.0),
        ("a 250% zoom covers the picture by 12%", None, None, None, 12.0),
        ("a size of about 3 percent", None, None, None, 3.0),
        ("占图像面积的3.5%", None, None, None, 3.5),
        ("约3％的影像为高密度影，占位效应不明显，90%可信", None, None, "hyperdense", 3.0),
        ("病灶面积约为百分之三。", None, None, None, 3.0),
        ("占图像的百分之十二点五", None, None, None, 12.5),
        ("覆盖百分之二十的面积", None, None, None, 20.0),
        ("占位效应明显，可信度90%", None, None, None, None),
        ("a hyperattenuating focus", None, None, "hyperdense", None),
        ("an area of high density", None, None, "hyperdense", None),
        ("Low-attenuation change is noted; it is not hyperdense.", None, None, "hypodense", None),
        ("A hyper-dense rim around a hypodense core", None, None, "hyperdense", None),  # the first that is stated
        ("左侧见低密度影，未见高密度影", None, None, "hypodense", None),
        ("等密度肿块", None, None, "isodense", None),
        ('{"region of interest": "located left horizontally", "notes": "n"}', "left", None, None, None),
        ("", None, None, None, None),
    ],
)
def test_extract(text: str, horizontal: str | None, vertical: str | None, density: str | None, area: float) -> None:
    assert extract(text) == {"horizontal": horizontal, "vertical": vertical, "density": density, "area": area}


def test_swapping_left_and_right_costs_the_side_alone() -> None:
    assert scores(FINDING, FINDING) == {
        "slots": 100,
        "slot_horizontal": 100,
        "slot_vertical": 100,
        "slot_density": 100,
        "area_missing": 0,
        "area_error": 0,
    }
    swapped = scores(FINDING.replace("left", "right"), FINDING)
    assert swapped["slot_horizontal"] == 0
    assert swapped["slot_vertical"] == swapped["slot_density"] == 100
    assert swapped["slots"] == pytest.approx(200 / 3)


def test_another_row_or_density_costs_itself_alone() -> None:
    for right, wrong, slot in (("upper-middle", "bottom", "slot_vertical"), ("hyperdense", "isodense", "slot_density")):
        found = scores(FINDING.replace(right, wrong), FINDING)
        assert {name for name, value in found.items() if value == 0 and name.startswith("slot")} == {slot}
        assert found["slots"] == pytest.approx(200 / 3)


def test_only_what_the_reference_states_is_scored() -> None:
    assert scores(FINDING, "A CT scan of the brain.") == {}
    assert set(scores(FINDING, "a hyperdense area")) == {"slots", "slot_density"}


def test_missing_area_is_counted_not_averaged() -> None:
    assert scores("", FINDING)["area_missing"] == 100
    assert "area_error" not in scores("", FINDING)
    assert scores(FINDING.replace("1.3", "4"), FINDING)["area_error"] == pytest.approx(2.7)


def test_empty_prediction_scores_zero() -> None:
    assert {k: v for k, v in scores("", FINDING).items() if k.startswith("slot")} == {
        "slots": 0,
        "slot_horizontal": 0,
        "slot_vertical": 0,
        "slot_density": 0,
    }
