"""Every word of the report that is ours, in Chinese too."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import jinja2
import pytest
import yaml
from jinja2 import nodes

from radtune import places, report
from radtune.clean.accept import REFUSALS
from radtune.clean.text import Kind
from radtune.data.agreement import KINDS
from radtune.data.answers import FORMS
from radtune.evaluate import baselines, bootstrap, boxes, semantic
from radtune.evaluate.score import evaluate
from radtune.files import read_json, write_jsonl
from radtune.reasons import Reason
from radtune.report import gallery
from radtune.report.words import Words, join, key, said, t

FOLDER = Path(report.__file__).parent
TEMPLATES = sorted((FOLDER / "templates").glob("*.html.j2"))
UNREADABLE = [
    reason for reason in Reason if reason.name.startswith(("IMAGE_", "DICOM_", "PIXELS_", "SYNTAX_", "BURNED_"))
]
BILINGUAL = [path for path in TEMPLATES if path.name not in ("preview.html.j2", "comparison.html.j2")]  # English alone
LINES = (FOLDER / "words.zh.yaml").read_text(encoding="utf-8").splitlines()
CHINESE = yaml.safe_load("\n".join(LINES))
PLACEHOLDER = re.compile(r"\{(\w*)[^}]*\}")


def test_no_word_is_translated_twice() -> None:
    """The later would be taken for both."""
    assert len([line for line in LINES if line.strip() and not line.startswith("#")]) == len(CHINESE)


def keys_of_modules() -> Iterator[str]:
    for path in (*FOLDER.glob("*.py"), *FOLDER.with_name("read").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "t":
                yield ast.literal_eval(node.args[0])


def keys_of_templates() -> Iterator[str]:
    for path in TEMPLATES:
        for call in jinja2.Environment().parse(path.read_text(encoding="utf-8")).find_all(nodes.Call):
            if isinstance(call.node, nodes.Name) and call.node.name == "t":
                yield call.args[0].as_const()


def texts_of_other_stages(folder: Path) -> Iterator[str]:
    """All that reaches `said`: what other stages write and a page shows as our own words."""
    yield from [*gallery.KINDS, *places.COLUMNS, *places.ROWS, "none", "train", "validation", "test"]
    yield from ["group", "official", "images", "groups", "like images", *KINDS]
    yield from (form.replace("_", " ") for form in FORMS)
    yield from [*Kind, *(kind.sentence for kind in Kind), *REFUSALS.values(), "70 groups"]
    lexicon = yaml.safe_load((FOLDER.parent / "clean" / "wording.yaml").read_text(encoding="utf-8"))
    yield from (why for whys in lexicon.values() for why in whys)
    yield from ["built here", *(reason.sentence for reason in UNREADABLE)]
    yield from [*baselines.FLOORS.values(), bootstrap.p_signature(2000), *boxes.signatures(True).values()]
    if space := semantic.fit(["A hyperdense area."]):
        yield semantic.signature(space)
    for reference in ("A hyperdense area.", "左侧高密度影。"):
        row = {"id": "a", "tag": "CAPTION", "group": "g", "prediction": reference, "reference": reference}
        write_jsonl(folder / "test.jsonl", [row])
        evaluate(folder / "test.jsonl", folder / "test.json", folder / "test.parquet")
        signatures = read_json(folder / "test.json")["signatures"]
        yield from (found for name, found in signatures.items() if name != "floors")


def test_every_text_has_its_chinese_and_none_is_left_over(tmp_path: Path) -> None:
    own = {*keys_of_modules(), *keys_of_templates()}
    others = {found if found in CHINESE else key(found) for found in texts_of_other_stages(tmp_path)}
    assert sorted((own | others) - CHINESE.keys()) == []
    assert sorted(CHINESE.keys() - own - others) == []
    for english, chinese in CHINESE.items():
        named, filled = (
            [name or str(n) for n, name in enumerate(PLACEHOLDER.findall(text))] for text in (english, chinese)
        )
        assert sorted(named) == sorted(filled), english
        own = PLACEHOLDER.sub("", chinese)
        assert re.search("[\u4e00-\u9fff]", own) or not re.search("[A-Za-z]{2}", own), english


@pytest.mark.parametrize("path", BILINGUAL, ids=lambda path: path.name)
def test_no_word_of_a_template_stands_outside_a_translated_text(path: Path) -> None:
    source = re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}|&nbsp;", " ", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    source = re.sub(r"<title>.*?</title>|<code>.*?</code>", "", source)
    shown = re.sub(r"<[^>]*>", " ", source)
    assert set(re.findall(r"[A-Za-z]{2,}", shown)) <= {"ROUGE", "Snakemake"}
    assert not re.search(r"(?:aria-label|alt|title|placeholder)=", source)  # these are written by label()


def test_words_fill_in_both_languages() -> None:
    place = said("left")
    filled = t("words: {answer}, reference: {truth}", answer=place, truth="{x}")
    assert (filled, filled.zh) == ("words: left, reference: {x}", "文字：左，参考答案：{x}")
    assert said("iou where the reference's box is 3 % and more").zh.startswith("iou，只计参考框占图像面积 3%")
    assert said("what nobody translated").zh == "what nobody translated"
    assert isinstance(join([place, "a"]), Words)
    assert join([place, "a"]).zh == "左；a"
