"""Where each of the defects ends that a real data set holds sooner or later, on parquet made from real slices."""

import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from test_prepare import prepare

from radtune.files import read_json, read_jsonl

KEPT = "kept"
ENDS = {
    "truncated-jpeg": "image_unreadable",
    "empty-bytes": "image_missing",
    "null-image": "image_missing",
    "not-an-image": "image_unreadable",
    "json-unclosed": "record_unparsable",
    "json-not-a-dict": "record_unparsable",
    "json-code": "record_unparsable",
    "json-missing-key": "record_incomplete",
    "json-null-value": "record_incomplete",
    "json-double-quotes": KEPT,
    "json-deep": "record_unparsable",
    "tag-missing-in-text": "tag_not_in_text",
    "tag-twice": "tag_repeated",
    "empty-answer": "answer_empty",
    "null-text": "text_missing",
    "null-question": "tag_missing",
    "unknown-tag": "tag_unknown",
    "observation-question": KEPT,
    "roi-with-less-than": KEPT,
    "loc-out-of-range": "box_impossible",
    "loc-inverted": "box_impossible",
    "path-traversal-id": KEPT,  # an id is a label, never a path: see below
    "slash-id": KEPT,
    "empty-id": "id_missing",
    "same-id-other-image": KEPT,  # in one group with the image whose id it has, under a name of its own
    "grey-png-wide": KEPT,
    "rgba-png-tall": KEPT,
    "16-bit-png": KEPT,
    "one-pixel": "image_too_small",
    "image-placeholder-in-text": "control_token",
    "control-chars": "control_token",
    "chinese": KEPT,
    "very-long": "text_too_long",
}


@pytest.fixture(scope="module")
def made(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("real")
    writer = [
        sys.executable,
        str(real_data / "make_parquet.py"),
        str(folder / "parquet"),
        "--images",
        "40",
        "--defects",
    ]
    subprocess.run(writer, check=True, stdout=subprocess.DEVNULL)
    return folder / "parquet", prepare(folder / "parquet", folder / "work", quarantine_share=0.5)


def test_each_defect_ends_where_a_careful_person_would_put_it(made: tuple[Path, Path]) -> None:
    parquet, work = made
    truth = {row["defect"]: row["id"] for row in read_jsonl(parquet / "truth.jsonl") if row["defect"]}
    assert set(truth) == set(ENDS)
    rows = pq.read_table(work / "samples.parquet").to_pylist()
    original = next(row for row in read_jsonl(parquet / "truth.jsonl") if row["id"] == truth["same-id-other-image"])
    assert original["defect"] is None
    found = {}
    for name, id in truth.items():
        own = [row for row in rows if row["id"] == id]
        if name == "same-id-other-image":
            images = {row["image_sha256"] for row in own}
            assert len(images) == 2
            own = [row for row in own if [r["image_sha256"] for r in own].count(row["image_sha256"]) == 1]
        (row,) = own
        assert (row["status"] == KEPT) == (row["reason"] is None)
        found[name] = row["reason"] or row["status"]
    assert found == ENDS


def test_kept_and_quarantined_are_all_rows(made: tuple[Path, Path]) -> None:
    parquet, work = made
    rows = sum(pq.read_metadata(path).num_rows for path in parquet.glob("*.parquet"))
    status = pq.read_table(work / "samples.parquet")["status"].to_pylist()
    lost = read_jsonl(work / "quarantine.jsonl")
    assert rows == 40 * 6 + len(ENDS) == len(status)
    assert status.count("quarantined") == len(lost) == sum(end != KEPT for end in ENDS.values())
    assert all(row["text"] is not None and row["reason"] for row in lost)


def test_ids_are_labels_and_write_nothing_elsewhere(made: tuple[Path, Path]) -> None:
    parquet, work = made
    home = parquet.parent
    assert {path.name for path in home.iterdir()} == {"parquet", "work"}
    assert not list(home.parent.rglob("escape*"))
    assert not list(home.parent.rglob("pwned"))
    kept = pq.read_table(work / "samples.parquet", filters=[("status", "=", "kept")]).to_pylist()
    names = [(row["sample"], row["tag"]) for row in kept]
    assert len(set(names)) == len(names)
    entries = [
        entry for split in ("train", "validation", "test") for entry in read_json(work / f"sharegpt/{split}.json")
    ]
    assert {(entry["id"], entry["tag"]) for entry in entries} == set(names)
    assert all((work / entry["images"][0]).is_file() for entry in entries)


def test_the_rectangle_of_each_image_is_found_and_agrees(made: tuple[Path, Path]) -> None:
    parquet, work = made
    truth = {row["id"]: row["box"] for row in read_jsonl(parquet / "truth.jsonl") if row["box"]}
    rows = {row["id"]: row for row in pq.read_table(work / "samples.parquet").to_pylist() if row["id"] in truth}
    assert max(abs(a - b) for id, box in truth.items() for a, b in zip(rows[id]["box"], box, strict=True)) <= 1
    checks = read_json(work / "checks.json")
    assert checks["forms"]["JSON_RECORD.bloc"]["list"] == 40 + 1
    counts = checks["disagreements"]
    assert counts["coordinates"]["checked"] >= 2 * 40
    # the defects are written around another rectangle's texts: theirs are the only disagreements
    assert {row["id"] for row in read_jsonl(work / "disagreements.jsonl")}.isdisjoint(truth)
