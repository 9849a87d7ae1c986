"""Which place is taken for which, and how long answers are, as the charts say it in words."""

import re

from radtune.report.mistakes import confusions, contradictions, lengths


def row(reference: str, prediction: str, tag: str = "CAPTION") -> dict[str, str]:
    return {"reference": reference, "prediction": prediction, "tag": tag}


def test_places_are_counted_by_what_the_reference_says() -> None:
    rows = [
        row("Located left horizontally.", "Located left horizontally."),
        row("Located left horizontally.", "Located right horizontally."),
        row("Located right-center horizontally.", "Nothing is seen."),
        row("Nothing is seen.", "Located left horizontally."),
    ]
    ((caption, svg),) = confusions(rows)
    assert caption == "Place, horizontal"
    assert "left (2): left 1, left-center 0, central 0, right-center 0, right 1, none 0" in svg
    assert "right-center (1): left 0, left-center 0, central 0, right-center 0, right 0, none 1" in svg
    assert svg.count("var(--model)") == 3
    assert confusions([row("a scan", "left part of the image")]) == []


def test_lengths_stand_beside_the_references() -> None:
    svg = lengths([row("one two three", "one"), row("一二三", "a b-c, d"), row("x", "", "OTHER")])
    assert "CAPTION, reference 2 values, median 3," in svg
    assert "CAPTION, prediction 2 values, median 2.5" in svg
    assert "OTHER, prediction 1 values, median 0" in svg


def test_answers_that_contradict_the_reference_or_themselves() -> None:
    rows = [
        row("Located left horizontally.", "Located right horizontally.") | {"id": "a"},
        row("Located left horizontally.", "Located left horizontally.") | {"id": "b"},
        row("[a box]", "[a box]", "DETECT_REGION_LOC") | {"id": "b"},
        row("Nothing is seen.", "Located in the upper part of the image.") | {"id": "c"},
    ]
    none = {"laterality": None, "iou": None, "box_prediction": None}
    scores = [
        none | {"laterality": 0.0},
        none | {"laterality": 100.0},
        none | {"iou": 0.0, "box_prediction": [400.0, 0.0, 600.0, 100.0]},
        none,
    ]
    assert contradictions(rows, scores) == {
        0: ["side: wrong or not said", "words: right, reference: left"],
        1: ["words: left, own box: central"],
        2: ["box: does not touch the reference's"],
    }
    scores[2]["box_prediction"] = [200.0, 0.0, 390.0, 100.0]  # the cell beside "left": a border's matter
    assert 1 not in contradictions(rows, scores)


def test_charts_carry_their_chinese() -> None:
    ((_, svg),) = confusions([row("Located in the upper-middle part of the image.", "Located in the middle part.")])
    labels = dict(re.findall(r'data-zh="([^"]*)">([^<]*)</text>', svg))
    assert labels["中上"] == "upper-"
    assert labels["中"] == "middle"
    assert labels["中上（1）"] == "upper-middle (1)"
    assert '<title data-zh="垂直方位">Place, vertical</title>' in svg
