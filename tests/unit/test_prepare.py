"""The data stages one after the other, without a workflow: every row accounted for, nothing leaks."""

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from radtune.data.check import check
from radtune.data.index import index, merge_index
from radtune.data.prompts import read_prompts
from radtune.data.sharegpt import write_sharegpt
from radtune.data.source import list_shards
from radtune.data.split import split
from radtune.files import UserError, read_json, read_jsonl
from radtune.images.enhance import enhance
from radtune.images.scan import scan
from radtune.reasons import Reason

COLUMNS = {key: key for key in ("id", "image", "question", "text")}
PROMPTS = Path(__file__).parents[2] / "config" / "prompts"


def prepare(
    source: Path,
    out: Path,
    *,
    by: str = "group",
    missing_boxes: str = "quarantine",
    quarantine_share: float = 0.2,
    columns: dict[str, str] = COLUMNS,
    largest_group: float = 0.02,
) -> Path:
    list_shards(out / "shards.json", "local", source)
    listing = read_json(out / "shards.json")["shards"]
    (out / "shards").mkdir()
    for shard in listing:
        (out / "shards" / f"{shard['name']}.parquet").symlink_to(shard["origin"])
        index(
            out / "shards" / f"{shard['name']}.parquet",
            shard["split"],
            out / "index" / f"{shard['name']}.parquet",
            columns,
        )
    parts = [out / "index" / f"{shard['name']}.parquet" for shard in listing]
    merge_index(parts, out / "shards.json", out / "images.parquet", out / "manifest.json")
    for shard in listing:
        name = f"{shard['name']}.parquet"
        scan(out / "shards" / name, out / "images.parquet", out / "scan" / name)
        enhance(
            out / "shards" / name,
            out / "images.parquet",
            out / "images" / shard["name"],
            out / "geometry" / name,
            size=224,
        )
    split(
        parts,
        [out / "scan" / part.name for part in parts],
        by=by,
        fractions={"train": 0.8, "validation": 0.1, "test": 0.1},
        seed=0,
        near_duplicate_bits=31,
        largest_group=largest_group,
        missing_boxes=missing_boxes,
        quarantine_share=quarantine_share,
        samples=out / "samples.parquet",
        quarantine=out / "quarantine.jsonl",
        leakage_out=out / "leakage.json",
    )
    check(
        parts,
        [out / "scan" / part.name for part in parts],
        out / "samples.parquet",
        by=by,
        fractions={"train": 0.8, "validation": 0.1, "test": 0.1},
        out=out / "checks.json",
        disagreements=out / "disagreements.jsonl",
    )
    geometry = [out / "geometry" / part.name for part in parts]
    write_sharegpt(
        out / "samples.parquet", geometry, PROMPTS / "en.yaml", out / "sharegpt",
        media="images", record="json", box="qwen3vl", seed=0,
    )  # fmt: skip
    return out


@pytest.fixture(scope="module")
def prepared(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(phantoms, tmp_path_factory.mktemp("prepared"))


def test_kept_and_quarantined_are_all_rows(prepared: Path, phantoms: Path) -> None:
    rows = sum(pq.read_metadata(path).num_rows for path in phantoms.glob("*.parquet"))
    samples = pq.read_table(prepared / "samples.parquet").to_pylist()
    status = Counter(row["status"] for row in samples)
    assert status.total() == rows == sum(shard["rows"] for shard in read_json(prepared / "manifest.json")["shards"])
    assert len(read_jsonl(prepared / "quarantine.jsonl")) == status["quarantined"]
    assert status["kept"] == 24 * 6


def test_every_defect_ends_in_quarantine_with_a_reason(prepared: Path, phantoms: Path) -> None:
    defects = {row["id"]: row["defect"] for row in read_jsonl(phantoms / "truth.jsonl") if row.get("defect")}
    lost = {row["id"]: row["reason"] for row in read_jsonl(prepared / "quarantine.jsonl")}
    assert set(lost) == set(defects)
    assert all(lost.values())


def test_each_unique_image_is_enhanced_once(prepared: Path) -> None:
    kept = [row for row in pq.read_table(prepared / "samples.parquet").to_pylist() if row["status"] == "kept"]
    files = [path.stem for path in (prepared / "images").rglob("*.jpg")]
    assert len(files) == len(set(files)) == 24
    assert set(files) == {row["image_sha256"] for row in kept}


def test_the_split_leaks_nothing_that_was_delivered_leaking(prepared: Path) -> None:
    leakage = read_json(prepared / "leakage.json")
    assert leakage["as_delivered"]["images"]["test_in_train"] > 0
    assert leakage["after"]["images"]["test_in_train"] == leakage["after"]["groups"]["validation_in_train"] == 0
    shares = read_json(prepared / "checks.json")["split"]
    assert shares["asked"] == {"train": 0.8, "validation": 0.1, "test": 0.1}
    assert sum(shares["got"].values()) == pytest.approx(1)


def test_near_duplicates_join_where_a_group_may_grow(prepared: Path, phantoms: Path, tmp_path: Path) -> None:
    """Links beyond 10 bits, which a group of 2 % of so few rows has no room for."""
    larger = prepare(phantoms, tmp_path, largest_group=0.3)
    looks = pq.read_table(sorted((larger / "scan").glob("*.parquet"))).to_pylist()
    hashes = {row["image_sha256"]: np.frombuffer(row["likeness"] or b"", np.uint8) for row in looks}
    together = []
    for folder in (prepared, larger):
        rows = pq.read_table(folder / "samples.parquet", filters=[("status", "=", "kept")]).to_pylist()
        groups = {row["image_sha256"]: row["group"] for row in rows}
        bits = {(a, b): int(np.bitwise_count(hashes[a] ^ hashes[b]).sum()) for a in groups for b in groups if a < b}
        together.append([pair for pair in bits if 10 < bits[pair] <= 31 and groups[pair[0]] == groups[pair[1]]])
        sizes = Counter(row["group"] for row in rows)
        assert max(sizes.values()) <= (0.3 * len(rows) if folder == larger else 12)
    assert len(together[0]) < len(together[1])


def test_the_official_split_stays_possible_and_says_what_leaks(phantoms: Path, tmp_path: Path) -> None:
    leakage = read_json(prepare(phantoms, tmp_path, by="official") / "leakage.json")
    assert leakage["after"] == leakage["as_delivered"]


def test_cleaned_texts_change_train_and_validation_and_never_test(prepared: Path, tmp_path: Path) -> None:
    kept = pq.read_table(prepared / "samples.parquet", filters=[("tag", "=", "CAPTION"), ("status", "=", "kept")])
    rows = [
        {"id": row["sample"], "tag": "CAPTION", "action": action, "parts": parts}
        for i, row in enumerate(kept.to_pylist())
        for action, parts in [[("drop", None), ("rewrite", json.dumps({"text": "New."})), ("keep", None)][i % 3]]
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "cleaned.parquet")
    write_sharegpt(
        prepared / "samples.parquet", sorted((prepared / "geometry").iterdir()), PROMPTS / "en.yaml", tmp_path / "out",
        media="images", record="json", box="qwen3vl", seed=0, cleaned=tmp_path / "cleaned.parquet",
    )  # fmt: skip
    done = {row["id"]: row["action"] for row in rows}
    for split_name in ("train", "validation", "test"):
        before, after = (
            read_json(folder / f"{split_name}.json") for folder in (prepared / "sharegpt", tmp_path / "out")
        )
        if split_name != "test":
            caption = [one for one in before if one["tag"] == "CAPTION"]
            assert caption
            for one in caption:
                if done[one["id"]] == "rewrite":
                    one["messages"][1]["content"] = "New."
                if done[one["id"]] == "drop":
                    before.remove(one)
        assert after == before


def test_sharegpt_is_what_the_trainer_loads(prepared: Path) -> None:
    info = read_json(prepared / "sharegpt" / "dataset_info.json")
    wordings = read_prompts(PROMPTS / "en.yaml").seen
    keys = set()
    for name, part in info.items():
        assert part["columns"] == {"messages": "messages", "images": "images"}
        for entry in read_json(prepared / "sharegpt" / part["file_name"]):
            user, assistant = entry["messages"]
            assert (user["role"], assistant["role"]) == ("user", "assistant")
            assert user["content"].removeprefix("<image>") in wordings[entry["tag"]]
            assert assistant["content"].strip()
            assert (prepared / entry["images"][0]).is_file()
            keys.add((name, entry["id"], entry["tag"]))
    assert len(keys) == 24 * 6


def test_the_constraint_stands_once_after_each_question(prepared: Path, tmp_path: Path) -> None:
    found = read_prompts(PROMPTS / "zh.yaml")
    write_sharegpt(
        prepared / "samples.parquet", list((prepared / "geometry").glob("*")), PROMPTS / "zh.yaml", tmp_path / "out",
        media="images", record="json", box="qwen3vl", seed=0, wordings=3, constraint=True,
    )  # fmt: skip
    used = set()
    for entry in read_json(tmp_path / "out" / "train.json"):
        wording, constraint = entry["messages"][0]["content"].removeprefix("<image>").split("\n")
        assert (constraint, wording in found.seen[entry["tag"]][:3]) == (found.constraint, True)
        assert found.constraint not in entry["messages"][1]["content"]
        used.add(wording)
    assert len(used) == 3 * 6  # a data set without OBSERVATION


@pytest.mark.parametrize("tag", ["DETECT_REGION_LOC", "JSON_RECORD"])
def test_boxes_agree_with_the_burned_in_rectangle(prepared: Path, tag: str) -> None:
    """The answer's box, moved with the letterbox, lies where the rectangle was found in the pixels; so does the list of
    a record, once the rectangle has settled what it means.
    """
    places = {}
    for path in (prepared / "geometry").glob("*.parquet"):
        places |= {row["image_sha256"]: row for row in pq.read_table(path).to_pylist()}
    found = {row["id"]: row for row in pq.read_table(prepared / "samples.parquet").to_pylist() if row["box"]}
    checked = 0
    for path in (prepared / "sharegpt").glob("t*.json"):
        for entry in read_json(path):
            if entry["tag"] == tag and entry["id"] in found:
                row = found[entry["id"]]
                place = places[row["image_sha256"]]
                answer = json.loads(entry["messages"][1]["content"])
                box = (answer["bloc"] if tag == "JSON_RECORD" else answer[0])["bbox_2d"]
                for value, pixel, axis in zip(box, row["box"], ("width", "height") * 2, strict=True):
                    offset = place["left"] if axis == "width" else place["top"]
                    moved = pixel * place[f"new_{axis}"] / place[axis] + offset
                    assert abs(value * 224 / 1000 - moved) < 2
                checked += 1
    assert checked > 15


def rewrite(source: Path, out: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
    """The shards of `source` with every row changed."""
    for path in source.glob("*.parquet"):
        rows = [change(row) for row in pq.read_table(path).to_pylist()]
        out.mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), out / path.name)
    return out


def test_a_box_may_come_from_the_pixels_where_the_text_has_none(phantoms: Path, tmp_path: Path) -> None:
    def without_coordinates(row: dict[str, Any]) -> dict[str, Any]:
        detect = row["question"] == "<DETECT_REGION_LOC>" and row["text"]
        return row | ({"text": "<DETECT_REGION_LOC>lesion"} if detect else {})

    source = rewrite(phantoms, tmp_path / "source", without_coordinates)
    left = prepare(source, tmp_path / "left", quarantine_share=0.5)
    reasons = Counter(row["reason"] for row in read_jsonl(left / "quarantine.jsonl"))
    taken = prepare(source, tmp_path / "taken", missing_boxes="recover", quarantine_share=0.5)
    rows = pq.read_table(taken / "samples.parquet", filters=[("tag", "=", "DETECT_REGION_LOC")]).to_pylist()
    kept = [row for row in rows if row["status"] == "kept"]
    assert reasons["box_unparsable"] > 15
    assert len(kept) > 15
    for row in kept:
        x1, y1, x2, y2 = row["box"]
        assert json.loads(row["parts"])["box"] == [x1, y1, x2 + 1, y2 + 1]
    entries = [e for split in ("train", "validation", "test") for e in read_json(taken / "sharegpt" / f"{split}.json")]
    answers = [e["messages"][1]["content"] for e in entries if e["tag"] == "DETECT_REGION_LOC"]
    assert all(json.loads(answer)[0]["label"] == "lesion" for answer in answers)
    assert read_json(taken / "checks.json")["forms"]["DETECT_REGION_LOC"]["other"] == len(rows)


def test_boxes_within_a_description_are_counted_compared_and_moved(phantoms: Path, tmp_path: Path) -> None:
    def with_box(row: dict[str, Any]) -> dict[str, Any]:
        described = row["question"] == "<REGION_LOC_DESCRIPTION>" and row["text"]
        return row | ({"text": row["text"] + " a<loc_0><loc_0><loc_20><loc_500>"} if described else {})

    work = prepare(rewrite(phantoms, tmp_path / "source", with_box), tmp_path / "work")
    checks = read_json(work / "checks.json")
    assert checks["forms"]["REGION_LOC_DESCRIPTION"].keys() == {"loc_tokens"}
    assert checks["disagreements"]["coordinates"]["disagree"] > 15
    entries = [e for split in ("train", "validation", "test") for e in read_json(work / "sharegpt" / f"{split}.json")]
    answers = [e["messages"][1]["content"] for e in entries if e["tag"] == "REGION_LOC_DESCRIPTION"]
    assert answers
    assert all('a {"bbox_2d": [' in answer and "<loc_" not in answer for answer in answers)


def test_another_patient_column_keeps_its_rows_together(phantoms: Path, tmp_path: Path) -> None:
    patients = {row["id"]: f"patient {row['patient']}" for row in read_jsonl(phantoms / "truth.jsonl")}
    source = rewrite(phantoms, tmp_path / "source", lambda row: row | {"patient": patients[row["id"]]})
    work = prepare(source, tmp_path / "work", columns=COLUMNS | {"group": "patient"})
    kept = pq.read_table(work / "samples.parquet", filters=[("status", "=", "kept")]).to_pylist()
    splits: dict[str, set[str]] = {}
    for row in kept:
        splits.setdefault(patients[row["id"]], set()).add(row["split"])
    assert len(splits) == 4
    assert all(len(found) == 1 for found in splits.values())


def test_a_row_that_comes_again_is_kept_once(phantoms: Path, prepared: Path, tmp_path: Path) -> None:
    """Of rows with one id and tag: those of the same image are the same, those of another keep a name of their own."""
    kept = pq.read_table(prepared / "samples.parquet", filters=[("status", "=", "kept")]).to_pylist()
    train = phantoms / "train-00000-of-00002.parquet"
    table = pq.read_table(train).to_pylist()
    rows = {(row["id"], row["question"].strip("<>")): row for row in table if row["question"]}
    here = [(row["id"], row["tag"]) for row in kept if (row["id"], row["tag"]) in rows]
    first = here[0]
    other = next(key for key in here if key[0] != first[0] and key[1] == first[1])
    again = [rows[first], rows[first], rows[other] | {"id": first[0]}]
    source = rewrite(phantoms, tmp_path / "source", lambda row: row)
    path = source / train.name
    pq.write_table(pa.Table.from_pylist(table + again), path)
    work = prepare(source, tmp_path / "work")
    lost = [row for row in read_jsonl(work / "quarantine.jsonl") if row["reason"] == Reason.DUPLICATE]
    assert [(row["id"], row["tag"]) for row in lost] == [first, first]
    now = pq.read_table(work / "samples.parquet", filters=[("status", "=", "kept")]).to_pylist()
    assert len(now) == len(kept) + 1
    assert len({(row["sample"], row["tag"]) for row in now}) == len(now)


def test_words_that_contradict_the_rectangle_are_listed(phantoms: Path, tmp_path: Path) -> None:
    swap = {"left": "right", "right": "left"}

    def swapped(row: dict[str, Any]) -> dict[str, Any]:
        text = row["text"] and re.sub(r"\b(left|right)\b", lambda m: swap[m[0]], row["text"])
        return row | {"text": text}

    work = prepare(rewrite(phantoms, tmp_path / "source", swapped), tmp_path / "work")
    counts = read_json(work / "checks.json")["disagreements"]
    assert counts["horizontal"]["disagree"] > 0.5 * counts["horizontal"]["checked"] > 10
    assert counts["vertical"]["disagree"] == counts["percentage"]["disagree"] == 0 < counts["vertical"]["checked"]
    rows = read_jsonl(work / "disagreements.jsonl")
    assert len(rows) == counts["horizontal"]["disagree"]
    assert all(row["kind"] == "horizontal" and row["text_says"] != row["pixels_say"] for row in rows)


def test_too_much_quarantine_stops_the_run_and_keeps_the_list(phantoms: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"rows cannot be used \(.*limits.quarantine_share 0.01"):
        prepare(phantoms, tmp_path, quarantine_share=0.01)
    assert not (tmp_path / "samples.parquet").exists()
    assert read_jsonl(tmp_path / "quarantine.refused.jsonl")


def test_a_missing_column_is_named(phantoms: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no column 'answer' \(it has id, image, question, text\)"):
        index(phantoms / "test-00000-of-00001.parquet", "test", tmp_path / "x.parquet", COLUMNS | {"text": "answer"})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("image", [b"bytes"], "column 'image' holds binary, not images as bytes and path; write it as hubs do"),
        ("text", [["a", "b"]], "column 'text' holds list.*, not text; name another under dataset.columns"),
    ],
)
def test_a_column_of_another_kind_is_named(
    phantoms: Path, tmp_path: Path, name: str, values: list[Any], said: str
) -> None:
    shard = pq.read_table(next(phantoms.glob("test-*.parquet"))).slice(0, 1)
    pq.write_table(shard.set_column(shard.schema.get_field_index(name), name, [values]), tmp_path / "test-0.parquet")
    with pytest.raises(UserError, match=said):
        index(tmp_path / "test-0.parquet", "test", tmp_path / "x" / "x.parquet", COLUMNS)
    assert not (tmp_path / "x").exists()


def test_numbers_serve_as_ids(phantoms: Path, tmp_path: Path) -> None:
    shard = pq.read_table(next(phantoms.glob("test-*.parquet")))
    pq.write_table(shard.set_column(0, "id", [range(len(shard))]), tmp_path / "test-0.parquet")
    index(tmp_path / "test-0.parquet", "test", tmp_path / "x.parquet", COLUMNS)
    assert pq.read_table(tmp_path / "x.parquet")["id"].to_pylist() == [str(i) for i in range(len(shard))]


def test_an_index_that_lacks_rows_of_its_shard_is_found_out(prepared: Path, tmp_path: Path) -> None:
    whole = sorted((prepared / "index").glob("*.parquet"))
    cut = pq.read_table(whole[0]).slice(1)
    pq.write_table(cut.replace_schema_metadata(pq.read_metadata(whole[0]).metadata), tmp_path / whole[0].name)
    names = {"samples": "s.parquet", "quarantine": "q.jsonl", "leakage_out": "l.json"}
    rows = sum(pq.read_metadata(path).num_rows for path in whole)
    with pytest.raises(UserError, match=f"{rows - 1} of the shards' {rows}; delete its index"):
        split(
            [tmp_path / whole[0].name, *whole[1:]],
            sorted((prepared / "scan").glob("*.parquet")),
            by="official",
            fractions={"train": 0.8, "validation": 0.1, "test": 0.1},
            seed=0,
            near_duplicate_bits=31,
            largest_group=0.02,
            missing_boxes="quarantine",
            quarantine_share=0.2,
            **{name: tmp_path / file for name, file in names.items()},
        )
    assert not (tmp_path / "s.parquet").exists()


def test_a_folder_without_shards_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no \.parquet file"):
        list_shards(tmp_path / "shards.json", "local", tmp_path)


def test_prompts_need_every_tag(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("CAPTION: [one]\n")
    with pytest.raises(UserError, match="CAPTION_DETAILS needs a list"):
        read_prompts(tmp_path / "p.yaml")
