"""Wordings: what training uses of a file, and the same questions in words that it never uses."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from radtune.data.answers import TAGS
from radtune.data.prompts import choose, read_prompts, taught
from radtune.data.sharegpt import reword
from radtune.files import UserError, read_json, write_json

PROMPTS = Path(__file__).parents[2] / "config" / "prompts"
SEED = 3


def asked(prompts: Path, wordings: int | None, after: str = "") -> list[dict[str, Any]]:
    """Entries as write_sharegpt() makes them, ten a tag."""
    seen = taught(prompts, wordings, constraint=False)[0]
    answer = {"role": "assistant", "content": "Answer."}
    return [
        {"id": f"i{n}", "tag": tag, "group": f"g{n}", "images": ["a.jpg"]}
        | {"messages": [{"role": "user", "content": f"<image>{choose(seen, SEED, f'i{n}', tag)}{after}"}, answer]}
        for n in range(10)
        for tag in TAGS
    ]


def question(entry: dict[str, Any]) -> str:
    text: str = entry["messages"][0]["content"]
    return text.removeprefix("<image>")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_shipped_wordings_are_many_and_the_unseen_ones_are_others(language: str) -> None:
    found = read_prompts(PROMPTS / f"{language}.yaml")
    assert {tag: len(wordings) for tag, wordings in found.seen.items()} == dict.fromkeys(TAGS, 6)
    assert set(found.unseen) == set(TAGS)
    every = [w for part in (found.seen, found.unseen) for wordings in part.values() for w in wordings]
    assert len(every) == len(set(every))
    assert all(2 <= len(wordings) <= 3 for wordings in found.unseen.values())
    assert found.constraint
    assert "\n" not in found.constraint


def test_training_uses_the_first_wordings_and_more_where_told() -> None:
    file = PROMPTS / "en.yaml"
    for wordings, many in ((1, 1), (2, 2), (6, 6), (None, 6), (99, 6)):
        used = {question(entry) for entry in asked(file, wordings) if entry["tag"] == "CAPTION"}
        assert used <= set(read_prompts(file).seen["CAPTION"][:many])
        assert (len(used) > 1) == (many > 1)
    assert len(used) > 2


def test_a_wording_is_chosen_by_seed_id_and_tag() -> None:
    seen = read_prompts(PROMPTS / "en.yaml").seen
    chosen = {seed: [choose(seen, seed, f"i{n}", "CAPTION") for n in range(20)] for seed in (0, 1)}
    assert chosen[0] == [choose(seen, 0, f"i{n}", "CAPTION") for n in range(20)]
    assert chosen[0] != chosen[1]
    digest = int(hashlib.sha256(b"0/x/CAPTION").hexdigest()[:16], 16)  # other versions would choose other prompts
    assert choose({"CAPTION": ["a", "b"]}, 0, "x", "CAPTION") == "ab"[digest % 2]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_reworded_questions_are_the_same_but_for_their_words(tmp_path: Path, language: str) -> None:
    prompts, (one, other) = PROMPTS / f"{language}.yaml", (tmp_path / "test.json", tmp_path / "test.reworded.json")
    found = read_prompts(prompts)
    write_json(one, before := asked(prompts, 2, f"\n{found.constraint}"))
    reword(one, prompts, other, seed=SEED, wordings=2)
    after = read_json(other)
    assert [row | {"messages": row["messages"][1:]} for row in after] == [
        row | {"messages": row["messages"][1:]} for row in before
    ]
    for row in after:
        wording, constraint = question(row).split("\n")
        assert wording in found.unseen[row["tag"]]
        assert constraint == found.constraint
        assert row["messages"][0]["content"].count("<image>") == 1
    assert len({question(row) for row in after}) > len(TAGS)


def test_a_file_of_one_s_own_needs_only_the_tags(tmp_path: Path) -> None:
    write_prompts(tmp_path / "own.yaml", unseen={"CAPTION": ["Other."]})
    write_json(tmp_path / "test.json", asked(tmp_path / "own.yaml", None))
    reword(tmp_path / "test.json", tmp_path / "own.yaml", tmp_path / "out.json", seed=SEED)
    assert {(row["tag"], question(row)) for row in read_json(tmp_path / "out.json")} == {("CAPTION", "Other.")}
    write_prompts(tmp_path / "own.yaml")
    assert read_prompts(tmp_path / "own.yaml")[1:] == ({}, "")
    with pytest.raises(UserError, match=r"own\.yaml: has no constraint; write one"):
        taught(tmp_path / "own.yaml", None, constraint=True)


def write_prompts(path: Path, **more: Any) -> None:
    path.write_text(yaml.safe_dump({tag: [f"One {tag}.", f"Two {tag}."] for tag in TAGS} | more))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"unseen": {"CAPTION": ["One CAPTION. "]}}, r"unseen.CAPTION has a wording of CAPTION: 'One CAPTION.'"),
        ({"unseen": {"CAPTIONS": ["x"]}}, "unseen.CAPTIONS is no known tag"),
        ({"unseen": {"CAPTION": []}}, "unseen.CAPTION needs a list"),
        ({"unseen": ["x"]}, "unseen must hold lists of wordings by tag"),
        ({"constraint": ["x"]}, "constraint a sentence"),
        ({"CAPTION": "x"}, "CAPTION needs a list"),
        ({"UNSEEN": {}}, "UNSEEN is no known tag"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(tmp_path: Path, more: dict[str, Any], says: str) -> None:
    write_prompts(tmp_path / "own.yaml", **more)
    with pytest.raises(UserError, match=says):
        read_prompts(tmp_path / "own.yaml")


def test_prompts_of_another_file_are_noticed(tmp_path: Path) -> None:
    shutil.copy(PROMPTS / "en.yaml", tmp_path)
    write_json(tmp_path / "test.json", asked(tmp_path / "en.yaml", 2))
    with pytest.raises(UserError, match=r"test.json: sample i\d was not asked as .*zh.yaml says"):
        reword(tmp_path / "test.json", PROMPTS / "zh.yaml", tmp_path / "out.json", seed=SEED, wordings=2)
    with pytest.raises(UserError, match="was not asked as"):
        reword(tmp_path / "test.json", tmp_path / "en.yaml", tmp_path / "out.json", seed=SEED, wordings=6)
