"""Which place is taken for which, and how long answers are, as the charts say it in words."""

from radtune.report.mistakes import confusions, lengths


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
