"""The phantoms: parquet in the real data set's shape, and words and boxes that follow from the pixels."""

import ast
import hashlib
import io
import json
import re
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from radtune.data import phantom
from radtune.data.phantom_draw import draw, draw_patient, level_name
from radtune.data.phantom_text import COLUMNS, ROWS, TAGS, state_facts, write_texts
from radtune.files import read_json, read_jsonl

IMAGES = 16


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("phantom") / "set"
    phantom.write_dataset(out, images=IMAGES, seed=5, shards=2)
    return out


@pytest.fixture(scope="module")
def rows(made) -> list[dict]:
    return [row for path in sorted(made.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


@pytest.fixture(scope="module")
def truth(made) -> list[dict]:
    return read_jsonl(made / "truth.jsonl")


def test_files_and_schema_are_the_data_sets(made, rows):
    names = {path.name for path in made.iterdir()}
    assert names == {
        "train-00000-of-00002.parquet",
        "train-00001-of-00002.parquet",
        "validation-00000-of-00001.parquet",
        "test-00000-of-00001.parquet",
        "truth.jsonl",
    }
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    expected = [("id", pa.string()), ("image", image), ("question", pa.string()), ("text", pa.string())]
    for path in made.glob("*.parquet"):
        schema = pq.read_schema(path)
        assert schema.remove_metadata() == pa.schema(expected)
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        assert features["image"] == {"_type": "Image"}
        assert list(features) == schema.names
        assert pq.ParquetFile(path).metadata.row_group(0).num_rows <= 100
    assert len(rows) == 6 * IMAGES + 2  # 2 % defective rows on top


def test_every_image_has_six_rows_with_its_tags(rows, truth):
    sound = [line for line in truth if line["defect"] is None]
    assert len(sound) == IMAGES
    for line in sound:
        mine = [row for row in rows if row["id"] == line["id"]]
        assert Counter(row["question"] for row in mine) == Counter(f"<{tag}>" for tag in TAGS)
        assert {hashlib.sha256(row["image"]["bytes"]).hexdigest() for row in mine} == {line["image_sha256"]}
        assert all(row["text"].startswith(row["question"]) for row in mine)


def test_same_arguments_give_the_same_bytes(made, tmp_path):
    phantom.write_dataset(tmp_path / "again", images=IMAGES, seed=5, shards=2)
    for path in made.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


def test_green_line_lies_where_the_box_is(rows, truth):
    data = {row["id"]: row["image"]["bytes"] for row in rows if row["image"]}
    checked = 0
    for line in truth:
        if line["defect"] is not None or line["mode"] == "L":
            continue
        pixels = np.asarray(Image.open(io.BytesIO(data[line["id"]])).convert("RGB")).astype(int)
        assert pixels.shape[:2] == (line["height"], line["width"])
        green = pixels[..., 1] - pixels[..., [0, 2]].max(axis=2) > 90
        ys, xs = np.nonzero(green)
        found = [xs.min(), ys.min(), xs.max(), ys.max()]
        assert np.abs(np.subtract(found, line["box"])).max() <= 1
        x1, y1, x2, y2 = line["box"]
        assert green[y1 + 1, x1 : x2 + 1].mean() > 0.95
        assert green[y1 : y2 + 1, x1 + 1].mean() > 0.95
        checked += 1
    assert checked >= IMAGES * 0.6


def test_words_agree_with_the_box(rows, truth):
    for line in truth:
        if line["defect"] is not None:
            continue
        x1, y1, x2, y2 = line["box"]
        width, height = line["width"], line["height"]
        text = {row["question"][1:-1]: row["text"] for row in rows if row["id"] == line["id"]}
        column = COLUMNS[int((x1 + x2) / 2 / width * 5)]
        row_word = ROWS[int((y1 + y2) / 2 / height * 5)]
        percent = f"{(x2 - x1) * (y2 - y1) / width / height * 100:.1f}%"
        for tag in ("REGION_OF_INTEREST", "JSON_RECORD"):
            assert re.search(rf"\b{column} horizontally and {row_word} vertically", text[tag], re.I), text[tag]
            assert percent in text[tag]
        assert f"{row_word}, {column} part" in text["REGION_LOC_DESCRIPTION"]
        assert percent in text["REGION_LOC_DESCRIPTION"]
        assert "\n<OBSERVATION>\n" in text["REGION_OF_INTEREST"]
        for tag in TAGS:
            others = {"hyperdense", "hypodense", "isodense"} - {line["density"]}
            assert line["density"] in text[tag]
            assert not any(other in text[tag] for other in others)
        assert f"level of the {line['level_name']}" in text["CAPTION"]
        assert line["side"] in text["CAPTION"]
        record = ast.literal_eval(text["JSON_RECORD"].removeprefix("<JSON_RECORD>"))
        assert list(record) == ["caption", "region of interest", "observation", "notes", "bloc"]
        assert record["bloc"] == line["box"]
        tokens = [int(q) for q in re.findall(r"<loc_(\d+)>", text["DETECT_REGION_LOC"])]
        sizes = [width, height, width, height]
        assert tokens == [min(999, v * 1000 // size) for v, size in zip(line["box"], sizes, strict=True)]


def test_answers_are_of_readable_length(rows, truth):
    sound = {line["id"] for line in truth if line["defect"] is None}
    for row in rows:
        if row["id"] in sound and row["question"] not in ("<JSON_RECORD>", "<DETECT_REGION_LOC>"):
            assert 10 <= len(row["text"].split()) <= 55, row["text"]


@pytest.mark.parametrize("name", phantom.DEFECTS)
def test_each_defect_spoils_what_its_name_says(name):
    rng = np.random.default_rng(1)
    drawn = draw(draw_patient(rng), 0.4, rng)
    good, texts = phantom.encode(drawn), write_texts(state_facts(drawn), rng)
    row = phantom._spoil(name, good, texts)
    data = row["image"] and row["image"]["bytes"]
    tag, text = row["question"], row["text"]
    if name == "truncated-jpeg":
        with pytest.raises(OSError, match="truncated"):
            Image.open(io.BytesIO(data)).load()
    elif name in ("empty-bytes", "null-image"):
        assert not data
    else:
        assert data == good
    if name == "json-unparsable":
        with pytest.raises(SyntaxError):
            ast.literal_eval(text.removeprefix(tag))
    elif name == "json-missing-key":
        assert len(ast.literal_eval(text.removeprefix(tag))) == 4
    elif name == "unknown-tag":
        assert tag[1:-1] not in TAGS
        assert text.startswith(tag)
    elif name == "empty-answer":
        assert not text.removeprefix(tag).strip()
    elif name == "null-text":
        assert text is None
    elif name == "loc-inverted":
        x1, _, x2, _ = (int(q) for q in re.findall(r"<loc_(\d+)>", text))
        assert x1 > x2
        assert re.fullmatch(r"<DETECT_REGION_LOC>[a-z ]+(<loc_\d+>){4}", text)


def test_defective_rows_are_listed_with_their_own_ids(rows, truth):
    defects = {line["id"]: line["defect"] for line in truth if line["defect"]}
    assert list(defects.values()) == phantom.DEFECTS[:2]
    ids = Counter(row["id"] for row in rows)
    assert all(ids[one] == 1 for one in defects)
    assert set(ids) == {line["id"] for line in truth}


def test_unusual_sizes_and_modes_keep_box_and_lesion_inside():
    for n, (size, (mode, file_format)) in enumerate(phantom.UNUSUAL):
        rng = np.random.default_rng(n)
        drawn = draw(draw_patient(rng), n / len(phantom.UNUSUAL), rng, size)
        image = Image.open(io.BytesIO(phantom.encode(drawn, mode, file_format)))
        assert (image.size, image.mode, image.format) == (size, mode, file_format)
        x1, y1, x2, y2 = drawn.box
        assert 0 <= x1 < x2 < size[0]
        assert 0 <= y1 < y2 < size[1]


@pytest.mark.parametrize("density", ["hyperdense", "hypodense", "isodense"])
def test_lesion_is_as_bright_as_its_density_says(density):
    for n in range(6):
        rng = np.random.default_rng([7, n])
        drawn = draw(draw_patient(rng), (n + 0.5) / 6, rng, density=density)
        x1, y1, x2, y2 = drawn.box
        lesion = drawn.lesion > 127
        assert lesion.any()
        assert lesion.sum() == lesion[y1 : y2 + 1, x1 : x2 + 1].sum()
        assert not (lesion & (drawn.brain < 128)).any()
        around = cv2.dilate(drawn.lesion, np.ones((61, 61), np.uint8)) > 127
        around &= (cv2.dilate(drawn.lesion, np.ones((35, 35), np.uint8)) < 128) & (drawn.brain > 127)
        difference = np.median(drawn.pixels[lesion]) - np.median(drawn.pixels[around])
        low, high = {"hyperdense": (35, 150), "hypodense": (-100, -25), "isodense": (-20, 20)}[density]
        assert low < difference < high, (n, difference)


def test_neighbouring_slices_share_their_patients_anatomy():
    one, other = (draw_patient(np.random.default_rng(seed)) for seed in (1, 2))
    a, b, c = (
        draw(patient, level, np.random.default_rng(3), density="isodense").pixels.astype(float)
        for patient, level in ((one, 0.60), (one, 0.63), (other, 0.60))
    )
    assert np.abs(a - b).mean() < 0.5 * np.abs(a - c).mean()


def test_level_names_cover_all_levels():
    names = [level_name(level) for level in (0.0, 0.1, 0.3, 0.6, 0.8, 1.0)]
    assert len(set(names)) == 4


def test_practice_set_is_other_images_in_other_words(rows, tmp_path):
    out = tmp_path / "practice"
    phantom.write_practice(out, images=8, seed=5)
    assert {path.name for path in out.iterdir()} == {
        "practice.parquet",
        "images.parquet",
        "train.json",
        "dataset_info.json",
    }
    table = pq.read_table(out / "practice.parquet")
    assert table.schema.equals(phantom.SCHEMA)
    assert set(table["question"].to_pylist()) == {"<PRACTICE>"}
    hashes = [hashlib.sha256(image["bytes"]).hexdigest() for image in table["image"].to_pylist()]
    index = pq.read_table(out / "images.parquet")
    assert index.schema.types == [pa.string(), pa.int64(), pa.string()]
    assert index.to_pylist() == [
        {"shard": "practice", "row": row, "image_sha256": sha256} for row, sha256 in enumerate(hashes)
    ]
    assert len(set(hashes)) == 8
    assert not set(hashes) & {hashlib.sha256(row["image"]["bytes"]).hexdigest() for row in rows if row["image"]}

    records = read_json(out / "train.json")
    assert len({record["id"] for record in records}) == 8
    task = {row["text"] for row in rows if row["text"]}
    for record in records:
        user, assistant, *more = record["messages"]
        assert [turn["role"] for turn in record["messages"]] == ["user", "assistant"] * 3
        assert user["content"].startswith("<image>")
        assert not any("<image>" in turn["content"] for turn in more)
        assert record["images"][0].removeprefix("practice/").removesuffix(".jpg") in hashes
        assert assistant["content"].startswith(f"{record['facts']['horizontal']}, {record['facts']['vertical']}")
        for turn in (assistant, more[1], more[3]):
            assert not any(turn["content"] in text for text in task if len(turn["content"].split()) > 3)


def test_every_second_practice_image_mirrors_the_one_before(tmp_path):
    phantom.write_practice(tmp_path / "practice", images=4, seed=5)
    images = pq.read_table(tmp_path / "practice" / "practice.parquet")["image"].to_pylist()
    first, second = (np.asarray(Image.open(io.BytesIO(image["bytes"])), int) for image in images[:2])
    assert np.abs(first[:, ::-1] - second).mean() < 3
    sides = {"left": "right", "left-center": "right-center", "central": "central"}
    sides |= {value: key for key, value in sides.items()}
    records = read_json(tmp_path / "practice" / "train.json")
    assert records[1]["facts"]["horizontal"] == sides[records[0]["facts"]["horizontal"]]


def test_practice_is_named_for_llamafactory(tmp_path):
    out = tmp_path / "practice"
    phantom.write_practice(out, images=2, seed=5)
    info = read_json(out / "dataset_info.json")["practice"]
    assert info["file_name"] == "train.json"
    assert info["formatting"] == "sharegpt"
