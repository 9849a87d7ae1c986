"""The report: what it concludes, that it is one safe page, and that its figures are those of its inputs."""

import base64
import hashlib
import io
import json
import math
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from radtune.files import write_json, write_jsonl
from radtune.report import figures, gallery
from radtune.report.card import write_card
from radtune.report.page import _losses
from radtune.report.verdict import Evaluation, rank, verdict
from radtune.report.words import t
from report_page import plain, write_inputs, write_page


def evaluation(name: str, value: float, interval: list[float], floor: float = 30, **slots: Any) -> Evaluation:
    metric = {"value": value, "interval": interval, "floor": floor, "floor_interval": [floor - 2, floor + 2]}
    metric |= {"floor_name": "shuffled", "floors": {"shuffled": {"value": floor, "n": 1200, "interval": None}}}
    metrics = {"rouge_l": metric | {"lift_interval": [value - floor - 1, value - floor + 1]}} | slots
    return Evaluation(name, "test", {"n": 1200, "groups": 40, "overall": {"metrics": metrics}})


def test_verdict_names_the_best_experiment_and_the_best_floor() -> None:
    base, lora = evaluation("base", 40, [38, 42]), evaluation("lora", 60, [57, 63])
    first, second = verdict(rank([base, lora]))
    assert first == (
        "lora has the highest ROUGE-L on the test split (1,200 samples, 40 groups): 60.0, 95 % interval 57.0 to 63.0."
    )
    # The base, at 40, is a better floor than the references, at 30; the span is 57 - 42 to 63 - 38.
    assert "+20.0 points against the best floor, the untuned base model (40.0), interval 15.0 to 25.0" in second
    assert second.endswith(": better.")


def test_verdict_uses_the_paired_interval_for_shuffled_references() -> None:
    _, second = verdict(rank([evaluation("base", 10, [9, 11]), evaluation("lora", 60, [57, 63])]))
    assert "shuffled references (30.0), interval 29.0 to 31.0: better." in second


def test_verdict_claims_nothing_where_intervals_overlap() -> None:
    _, second = verdict(rank([evaluation("base", 58, [55, 61]), evaluation("lora", 60, [57, 63])]))
    assert "no difference shown" in second
    first, *_ = verdict(rank([evaluation("a", 60, [57, 63]), evaluation("b", 61, [58, 64])]))
    assert first.startswith("b has")
    assert "a follows with 60.0 (57.0 to 63.0): no difference shown" in first


def test_verdict_speaks_of_two_experiments_as_their_paired_difference_does() -> None:
    ranked = rank([evaluation("a", 60, [57, 63]), evaluation("b", 61, [58, 64])])
    pair = {"split": "test", "metric": "rouge_l", "of": "b", "minus": "a"}
    assert verdict(ranked, [pair | {"better": "b"}])[0].endswith("a follows with 60.0 (57.0 to 63.0).")
    for other in ({"better": None}, {"better": "b", "split": "train"}, {"better": "b", "metric": "iou"}):
        assert "no difference shown" in verdict(ranked, [pair | other])[0]


def test_verdict_says_where_the_best_floor_is_better() -> None:
    lora = evaluation("lora", 60, [57, 63])
    lora.content["overall"]["metrics"]["rouge_l"]["lift_interval"] = [-3, -1]
    assert verdict([lora])[1].endswith(": worse.")


def test_verdict_without_interval_or_floor_says_so() -> None:
    lora = evaluation("lora", 60, [57, 63])
    metric = lora.content["overall"]["metrics"]["rouge_l"]
    metric["interval"] = metric["floor_interval"] = None
    assert "without an interval" in verdict([lora])[1]
    metric["floor"] = metric["floor_name"] = None
    assert "no floor" in verdict([lora])[1]


def test_verdict_tells_the_slots_and_when_they_are_at_the_floor() -> None:
    slots = {"value": 35.0, "interval": [30, 40], "floor": 31.0, "floor_interval": [27, 36]}
    slots |= {"floor_name": "common", "lift_interval": [-1, 9]}
    assert verdict([evaluation("lora", 60, [57, 63], slots=slots)])[2] == (
        "It gets 35.0 % of the place and density words right, the best floor (most common answer) 31.0 %, "
        "interval of the difference −1.0 to 9.0: no difference shown."
    )


def test_differences_mark_only_what_differs() -> None:
    left, right = gallery.differences("located left-center, 1.3% of it", "located right, 1.3% of it")
    assert left == [(False, "located "), (True, "left-center"), (False, ", 1.3% of it")]
    assert right == [(False, "located "), (True, "right"), (False, ", 1.3% of it")]
    assert gallery.differences("左侧影", "右侧影")[1] == [(True, "右"), (False, "侧影")]
    assert gallery.differences("a b", "c d")[0] == [(True, "a b")]
    assert gallery.differences("same", "")[1] == []


def test_invisible_characters_are_written_out() -> None:
    assert gallery.visible("a\u202eb\x1b[31m\u200b\ud800\u2066\nend\r\n") == (
        "a⟨U+202E⟩b⟨U+001B⟩[31m⟨U+200B⟩⟨U+D800⟩⟨U+2066⟩\nend\n"
    )
    assert gallery.visible("影 é \t%") == "影 é \t%"


def test_pictures_come_from_the_media_folder_alone(tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    for folder in (media, tmp_path):
        Image.new("L", (900, 450), 128).save(folder / "a.png")
    assert (gallery.picture(media, "a.png") or "").startswith("data:image/jpeg;base64,")
    for name in ("../a.png", str(tmp_path / "a.png"), "", "absent.png", "a\x00.png"):
        assert gallery.picture(media, name) is None
    (media / "text.png").write_text("no picture")
    assert gallery.picture(media, "text.png") is None


def test_gallery_mixes_best_worst_and_random_and_stays_small() -> None:
    def row(i: int, tag: str) -> dict[str, Any]:
        return {"id": f"{i:03}", "tag": tag, "group": "g", "reference": "r", "prediction": "p"}

    rows = [row(i, tag) for tag in "ABCDEF" for i in range(20)]
    scores = [
        {"rouge_l": float(i), "iou": 100.0 - i if r["tag"] == "A" else None, "slots": None}
        | {"box_reference": None, "box_prediction": None, "laterality": None}
        for i, r in enumerate(rows)
    ]
    cards = gallery.cards(rows, scores, {"base": {("000", "A"): "other"}}, {})
    assert len(cards) == gallery.CARDS
    assert [card["tag"] for card in cards[:6]] == list("ABCDEF")
    best_and_worst = [card for card in cards if card["id"] in ("000", "019")]
    kinds = {(c["tag"], c["kinds"][0]): c["id"] for c in best_and_worst}
    assert {kind for card in cards if card["tag"] == "B" for kind in card["kinds"]} == {"best", "worst", "random"}
    assert (kinds["B", "best"], kinds["B", "worst"]) == ("019", "000")  # by ROUGE-L
    assert (kinds["A", "best"], kinds["A", "worst"]) == ("000", "019")  # by box overlap
    assert len({(c["id"], c["tag"]) for c in cards}) == len(cards)
    assert cards[0]["others"] == {"base": "other"}
    assert len(gallery.cards(rows[:1], scores[:1], {}, {})) == 1


def test_the_gallery_takes_the_gravest_contradictions_of_each_task() -> None:
    rows = [
        {"id": f"{i:03}", "tag": tag, "reference": "r", "prediction": "p"} for tag in ("A", "B") for i in range(100)
    ]
    none = dict.fromkeys(("iou", "slots", "laterality", "box_reference", "box_prediction"))
    scores = [none | {"rouge_l": float(i % 100)} for i in range(200)]
    doubts = {i: [t("side: wrong or not said")] * (2 if i % 100 == 50 else 1) for i in range(200)}
    cards = gallery.cards(rows, scores, {}, doubts)
    assert all(
        card["kinds"][-1] == "contradiction" for card in cards
    )  # a card's own is said whatever it was chosen for
    assert sum(card["id"] == "050" for card in cards) == 2
    assert gallery.CARDS < len(cards) <= gallery.CARDS + gallery.DOUBTFUL
    assert len({(card["id"], card["tag"]) for card in cards}) == len(cards)


def test_a_picture_is_embedded_once_however_many_cards_show_it(results: Path, page: str) -> None:
    assert page.count("data:image/jpeg;base64,") == 1
    assert page.count('<use href="#picture-0"/>') == page.count("<article")
    assert gallery.CARDS <= page.count("<article") <= gallery.CARDS + gallery.DOUBTFUL
    found = gallery.pictures([{"image": "a.png"}, {"image": "gone.png"}, {"image": "a.png"}], results / "media")
    assert [(file, of["name"]) for file, of in found.items()] == [("a.png", "picture-0")]


def test_no_choice_of_cards_makes_the_page_too_large() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (448, 448, 3), np.uint8))
    of_a_card = len(gallery.data_uri(noise)) + gallery.SIMILAR * len(gallery.data_uri(noise, gallery._SMALL))
    assert of_a_card * (gallery.CARDS + gallery.DOUBTFUL) < 17e6  # of the 20 MB that a page may have


def test_a_samples_similar_cases_are_shown_small_and_escaped(results: Path, tmp_path: Path) -> None:
    """Those of an experiment with retrieval, though another one is the best."""
    folder = tmp_path / "results"
    shutil.copytree(results, folder)
    for n in range(5):
        Image.new("L", (300, 300), n).save(folder / "media" / f"{n}.png")
    path = folder / "predict" / "base" / "test.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    case = {"group": "<i>g", "similarity": 0.98765, "answer": "<b>answer" + " and more" * 300}
    cases = [case | {"image": f"{n}.png"} for n in range(4)] + [case | {"image": "../secret.png"}]
    write_jsonl(path, [row | {"cases": cases} for row in rows])
    page = plain(write_page(folder).read_text())
    assert page.count("Similar training images given to base") == page.count("<article")
    assert page.count("data:image/jpeg;base64,") == 1 + gallery.SIMILAR  # each once, however many cards show it
    assert page.count("Similarity 0.988") == gallery.SIMILAR * page.count("<article")
    assert "<b>answer" not in page
    assert "&lt;b&gt;answer and more" in page
    assert "<i>g" not in page
    assert "&lt;i&gt;g" in page
    sides = {Image.open(io.BytesIO(base64.b64decode(uri))).width for uri in re.findall(r"jpeg;base64,([^\"]+)", page)}
    assert sides == {64, gallery._SMALL}


def test_losses_count_a_repeated_step_once(tmp_path: Path) -> None:
    run = tmp_path / "lora"
    lines = [
        {"step": 10, "loss": 9.0},
        {"step": 20, "loss": 2.0},
        {"step": 10, "loss": 3.0},
        {"step": 20, "eval_loss": 1.0},
    ]
    write_jsonl(run / "trainer_log.jsonl", lines)
    write_json(run / "summary.json", {"gpu": {"name": "x", "count": 1}, "list": [1]})
    (found,) = _losses([run])
    assert found["loss"] == [(10, 3.0), (20, 2.0)]
    assert found["eval_loss"] == [(20, 1.0)]
    assert found["perplexity"] == pytest.approx(math.e)
    assert found["summary"] == {"gpu: name": "x", "gpu: count": 1, "list": "[1]"}
    (tmp_path / "other").mkdir()
    assert _losses([tmp_path / "other"])[0]["chart"] is None


def test_charts_take_the_colours_of_the_page_and_escape_names() -> None:
    svg = figures.score_chart(
        'a"<b>', [figures.Mark("<i>$x$ & y", "model", 50.0, (40, 60)), figures.Mark("f", "floor", 30, None)]
    )
    assert "var(--model)" in svg
    assert "var(--floor)" in svg
    assert "#0000" not in svg
    assert "<i>" not in svg
    assert "&lt;i&gt;$x$ &amp; y" in svg
    assert svg == figures.score_chart(
        'a"<b>', [figures.Mark("<i>$x$ & y", "model", 50.0, (40, 60)), figures.Mark("f", "floor", 30, None)]
    )


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    write_inputs(folder)
    return folder


@pytest.fixture(scope="module")
def page(results: Path) -> str:
    """The page in English, without the Chinese that it carries."""
    return plain(write_page(results).read_text(encoding="utf-8"))


def test_page_stands_alone(page: str) -> None:
    parser = _Page()
    parser.feed(page)
    for tag, attributes in parser.tags:
        assert tag not in {"link", "iframe", "object", "em", "u", "form"}
        assert not [name for name in attributes if name.startswith("on")]
        source = attributes.get("src") or ""
        assert not source or source.startswith("data:image/jpeg;base64,")
        assert (attributes.get("href") or "#").startswith("data:image/jpeg;base64," if tag == "image" else "#")
    assert [attributes for tag, attributes in parser.tags if tag == "script"] == [{}]
    script = page[page.index("<script>") + 8 : page.index("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}';" in page
    assert not re.search(r"url\((?!#)|@import", page)


def test_hostile_text_is_shown_and_does_nothing(page: str) -> None:
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "⟨U+202E⟩gnp.⟨U+2066⟩exe⟨U+0000⟩⟨U+D800⟩ end" in page
    assert not set("\u202e\u2066\x00") & set(page)
    assert "&lt;u&gt;bad&lt;/u&gt;" in page
    assert "results: &lt;b&gt;here&lt;/b&gt;" in page
    assert "Demo &lt;em&gt;title&lt;/em&gt;" in page


def test_page_holds_every_section_and_the_figures_of_its_inputs(page: str) -> None:
    for section in (
        "scores",
        "tasks",
        "mistakes",
        "training",
        "samples",
        "data",
        "wording",
        "costs",
        "meaning",
        "provenance",
    ):
        assert f'<section id="{section}">' in page
    assert "lora has the highest ROUGE-L on the test split (60 samples, 15 groups)" in page
    assert "Only 15 groups" in page
    assert "not scored on the same samples" not in page
    assert "lora: 0 of 60 answers are empty, 1 hit the length limit." in page
    assert "10 rows came in, 7 were kept and 3 quarantined (30.0 %)." in page
    assert "do not add up" not in page
    assert re.search(r"no_image</code></th><td class=\"n\">2<", page)
    assert "As delivered, train holds 1,234 of 1,300 test images (94.9 %); as split here, by group, 0 of 1,300." in page
    assert re.search(r"test images</th><td class=\"n\">1,234 of 1,300<.*?</td><td class=\"n\">0 of 1,300<", page)
    assert re.search(
        r"train</th><td class=\"n\">7<.*79.0&nbsp;%<small>asked 80.0&nbsp;%<.*>4</td><td class=\"n\">1<", page
    )
    assert 'coordinates</th><td class="n">12 of 340 checked<small>3.5&nbsp;%<' in page
    assert page.count("<td>[1, 2, 3, 4]</td><td>[9, 9, 99, 99]</td>") == 3  # the first few; the file lists all
    assert re.search(r"results\d/disagreements.jsonl</code>", page)
    assert "<td>&lt;i&gt;words</td>" in page
    assert 'class="loud"' not in page
    assert page.count('<rect class="prediction"') == page.count('<rect class="reference"') == gallery.CARDS // 2
    assert 'x="100.0" y="100.0" width="300.0" height="300.0"' in page
    assert "Other experiments" in page
    assert "lora: of 1,000 rows, 0 were dropped, 33 rewritten; 11 stayed though something was found." in page
    assert "&lt;m&gt; was asked for 4 texts: 2 rewrites were taken." in page
    assert "Similarity before and after: 81.2 on average, at least 60" in page
    assert "1,234 tokens in, 56 out" in page
    assert ", at a cost of 1.50" in page
    assert re.search(r"A side changed\.</th><td class=\"n\">1<", page)
    assert re.search(
        r">chatty</th><td>It speaks as an assistant.*?</td><td class=\"n\">3</td><td class=\"n\">2</td>", page
    )
    assert re.search(r"Boxes found, by place</h3>.*<figcaption>base<.*<figcaption>lora<", page, re.DOTALL)
    assert re.search(rf"&lt;b&gt;train-0&lt;/b&gt;</th><td>train</td><td class=\"n\">5,000<.*{'ab' * 32}", page)
    assert "Not for clinical use" in page
    row = r"exact_match</code></th><td>lora − base</td><td class=\"n\"><b>\+31.7<.*>0.003<.*<td>lora is better</td>"
    assert re.search(row, page)
    switched = page.split("<h3>What each switch did</h3>")[1].split("</table>")[0]
    assert "Unseen wording: change of ROUGE-L" in switched
    assert "Records that are valid JSON" not in switched  # no record is there
    assert re.search(r"lora against base</th><td><div><code>training</code> none → \{.*&lt;i&gt;b.*\n.*<b>\+46.0", page)
    assert re.search(r"iou</code></th><td>lora − base</td>.*no difference shown", page)


def card(
    results: Path, source: str, by: str, out: Path, cleaned: Path | None = None, repo: str = "someone/slices"
) -> str:
    model = {"source": "huggingface", "path": None, "repo": "Qwen/Qwen3-VL-8B-Instruct", "revision": "0c351dd"}
    started = {"lora": "second", "second": "first", "first": None}
    experiments = {name: {"model": model, "init_adapter": other} for name, other in started.items()}
    config = {"dataset": {"source": source}, "experiments": experiments}
    (out / "config.yaml").write_text(json.dumps(config))
    write_json(out / "manifest.json", {"repo": repo, "revision": "2b08ad3", "shards": [{}, {}]})
    write_json(out / "secret" / "revision.json", {"commit": "0c351dd01ed8"})
    leakage = json.loads((results / "leakage.json").read_text())
    write_json(
        out / "leakage.json", leakage | {"by": by, "after": leakage["as_delivered" if by == "official" else "after"]}
    )
    losses = {"loss": {"final": 0.5, "best": 0.4, "best_step": 2}, "eval_loss": None}
    write_json(out / "summary.json", {"steps": 3, "epochs": 1.0} | losses)
    (out / "train.yaml").write_text(f"### model\nmodel_name_or_path: {out / 'secret'}\nlearning_rate: 5.0e-05\n")
    write_card(
        out / "README.md",
        experiment="lora",
        config=out / "config.yaml",
        evaluations=[results / "evaluate" / n / "test.json" for n in ("base", "lora")],
        training=out,
        manifest=out / "manifest.json",
        samples_table=results / "samples.parquet",
        quarantine=results / "quarantine.jsonl",
        leakage=out / "leakage.json",
        checks=results / "checks.json",
        cleaned=cleaned,
    )
    return (out / "README.md").read_text()


def test_what_other_words_cost_stands_beside_the_samples_that_were_asked(results: Path, page: str) -> None:
    table = plain(page).split("<caption>Robustness to wording</caption>")[1].split("</table>")[0]
    head, *rows = (re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in table.split("<tr>")[1:])
    assert [row[0] for row in rows] == ["base", "lora"]
    assert [int(row[-1]) for row in rows] == [40, 20]  # of lora, captions alone
    for name, cells in zip(("base", "lora"), rows, strict=True):
        found = json.loads((results / "evaluate" / name / "test.json").read_text())["reworded"]
        told = dict(zip(head, cells, strict=True))
        rouge = found["metrics"]["rouge_l"]
        assert f"<b>{rouge['difference']:+.1f}</b>" in told["ROUGE-L"]
        assert f"{rouge['seen']:.1f} → {rouge['value']:.1f}" in told["ROUGE-L"]
        assert f"<b>{found['unchanged']['value']:.1f}</b>" in told["Answers unchanged, %"]
        assert (told["Box overlap (IoU)"] == "–") == (name == "lora")


@pytest.mark.parametrize("without", [["base"], ["base", "lora"]])
def test_a_page_without_other_words_has_no_such_table(tmp_path: Path, without: list[str]) -> None:
    write_inputs(tmp_path)
    for name in without:
        content = json.loads((tmp_path / "evaluate" / name / "test.json").read_text())
        write_json(tmp_path / "evaluate" / name / "test.json", {k: v for k, v in content.items() if k != "reworded"})
    page = write_page(tmp_path).read_text()
    assert ("Robustness to wording" in page) == (without == ["base"])


def test_the_card_has_the_run_s_own_figures(results: Path, tmp_path: Path) -> None:
    text = card(results, "huggingface", "group", tmp_path)
    head = yaml.safe_load(text.split("---\n")[1])
    assert (head["base_model"], head["datasets"]) == ("Qwen/Qwen3-VL-8B-Instruct", ["someone/slices"])
    assert "Not for clinical use" in text
    assert "someone/slices, revision 2b08ad3: 2 shards, 10 rows; 7 used, 3 quarantined" in text
    assert "train holds 1,234 of 1,300 test images (94.9 %); as split here, by group, 0 of 1,300" in text
    assert "Train has seen" not in text
    own, base = (json.loads((results / "evaluate" / n / "test.json").read_text())["overall"] for n in ("lora", "base"))
    metric = own["metrics"]["rouge_l"]
    low, high = metric["interval"]
    row = next(line for line in text.splitlines() if line.startswith("| ROUGE-L"))
    assert f"| {metric['value']:.1f} ({low:.1f} to {high:.1f}) | {base['metrics']['rouge_l']['value']:.1f} (" in row
    assert f"| {metric['floor']:.1f} (" in row
    assert f"| {metric['lift']:.1f} (" in row
    assert "3 steps, 1 epochs; training loss 0.500 at the end, 0.400 at step 2. LLaMA-Factory's" in text
    assert "learning_rate: 5.0e-05" in text
    assert "/secret" not in text
    began = "revision 0c351dd01ed8, starting from the adapter of second, which started from that of first, 3 steps"
    assert f"From Qwen/Qwen3-VL-8B-Instruct, {began}" in text
    assert "<u>bad" not in text


def test_the_card_says_what_was_cleaned(results: Path, tmp_path: Path) -> None:
    sentence = (
        "- For their wording (chatty), of train 0 samples were left out and 33 rewritten; of validation 0 samples"
    )
    text = card(results, "local", "group", tmp_path, results / "rewrite-0.json")
    assert f"{sentence} were left out and 0 rewritten by &lt;m&gt;; the test split stayed as it was." in text
    assert "For their wording" not in card(results, "local", "group", tmp_path)


def test_the_card_says_what_train_has_seen_and_who_wrote_the_texts(results: Path, tmp_path: Path) -> None:
    assert "> Train has seen 1,234 of 1,300 test images" in card(results, "local", "official", tmp_path)
    assert "Who wrote the reference texts radtune cannot know" in (tmp_path / "README.md").read_text()
    medtrinity = card(results, "huggingface", "group", tmp_path, repo="mychen76/medtrinity_brain_30k_hf")
    assert "The reference texts were written by a machine (those of MedTrinity)" in medtrinity
    assert "no patient is behind them" in card(results, "phantom", "group", tmp_path)
