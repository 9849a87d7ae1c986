"""Cleaning in the workflow: rows dropped or rewritten by a server, the test split as delivered, a kill in between."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from running import ROOT, place, planned, snakemake

from openai_server import Reply, completion, serving
from radtune.clean.accept import REFUSALS, refusal
from radtune.clean.server import ask_all
from radtune.data.phantom import write_dataset
from radtune.files import read_json, read_jsonl

pytestmark = pytest.mark.slow
CHATTY = "I'm sorry, but as an AI language model I describe the image you provided: "
KEY = "sk-very-secret"
Entries = list[dict[str, Any]]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A place to run in, with a small data set of which every second caption begins with chatter."""
    folder = place(tmp_path)
    write_dataset(folder / "rows", 24, 3, 1)
    for path in (folder / "rows").glob("*.parquet"):
        table = pq.read_table(path)
        texts = [said.replace("<CAPTION>", f"<CAPTION>{CHATTY}" * (i % 2) or "<CAPTION>") for i, said in
                 enumerate(table["text"].to_pylist())]  # fmt: skip
        pq.write_table(table.set_column(table.column_names.index("text"), "text", pa.array(texts)), path)
    return folder


def configure(folder: Path, url: str, **server: Any) -> tuple[str, ...]:
    rewrite = {"base_url": url, "model": "m", "similarity": 20, "concurrency": 1} | server
    cleanings = {"dropped": {"action": "drop"}, "rewritten": {"action": "rewrite", "rewrite": rewrite}}
    experiments = {name: {"cleaning": of | {"kinds": ["chatty"]}} for name, of in cleanings.items()}
    config: dict[str, Any] = {"dataset": {"source": "local", "path": "rows"}, "experiments": experiments}
    (folder / "mine.yaml").write_text(yaml.safe_dump(config))
    return ("--configfile", "config/demo.yaml", "small.yaml", "mine.yaml", "--printshellcmds", "--", "prepare")


def answer(entry: dict[str, Any]) -> str:
    return str(entry["messages"][1]["content"])


def datasets(folder: Path) -> tuple[dict[str, Entries], ...]:
    """{split: entries} of the texts as they are, dropped and rewritten."""
    found = [
        {split: read_json(path / f"{split}.json") for split in ("train", "validation", "test")}
        for path in (folder / "results/small/sharegpt").iterdir()
    ]
    assert len(found) == 3
    (kept,) = (of for of in found if any(CHATTY in answer(one) for one in of["train"]))
    (dropped,) = (of for of in found if len(of["train"]) < len(kept["train"]))
    (rewritten,) = (of for of in found if of not in (kept, dropped))
    return kept, dropped, rewritten


def test_drop_and_rewrite_change_train_and_validation_alone(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving(lambda text, _: completion(text.replace(CHATTY, ""))) as server:
        done = snakemake(tree, *configure(tree, server.url), "preview")
        assert done.returncode == 0, done.stdout[-4000:]
        assert planned(done.stdout)["clean_texts"] == 2
        faster = configure(tree, server.url, concurrency=7, timeout=9, price={"input": 2})
        assert "Nothing to be done" in snakemake(tree, *faster).stdout
    assert set(server.keys) == {f"Bearer {KEY}"}
    assert KEY not in done.stdout
    assert not [path for path in tree.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]

    kept, dropped, rewritten = datasets(tree)
    assert kept["test"] == dropped["test"] == rewritten["test"]
    assert any(CHATTY in answer(one) for one in kept["test"])
    sent = set()
    for split in ("train", "validation"):
        assert dropped[split] == [one for one in kept[split] if CHATTY not in answer(one)]
        assert [one["id"] for one in rewritten[split]] == [one["id"] for one in kept[split]]
        assert list(map(answer, rewritten[split])) == [answer(one).replace(CHATTY, "") for one in kept[split]]
        sent |= {answer(one) for one in kept[split] if CHATTY in answer(one)}
    assert sorted(server.texts) == sorted(sent)


def test_after_a_kill_no_text_is_sent_again(tree: Path) -> None:
    def slow(text: str, _: int) -> Reply:
        time.sleep(0.4)
        return completion(text.replace(CHATTY, ""))

    with serving(slow) as server:
        files = configure(tree, server.url)[:-3]
        arguments = (*files, "--until", "clean_texts", "--", "prepare")
        command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "src")}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
        run = subprocess.Popen(command, cwd=tree, env=environment, **quiet)
        while len(server.texts) < 4:
            time.sleep(0.05)
            assert run.poll() is None
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        cache = tree / "results/small/data/cleaned/rewrites.jsonl"
        time.sleep(1)  # the job has a session of its own where Snakemake gave it one; let what is under way end
        answered = len(read_jsonl(cache))
        asked = len(server.texts)
        assert 3 <= answered <= asked
        unlocked = snakemake(tree, "--unlock", *files)
        assert unlocked.returncode == 0, unlocked.stdout
        server.answer = lambda text, _: completion(text.replace(CHATTY, ""))
        done = snakemake(tree, *arguments)
        assert done.returncode == 0, done.stdout[-4000:]
    assert len(server.texts) - asked == len(set(server.texts)) - answered > 0
    (cleaned,) = (tree / "results/small/data/cleaned").glob("rewrite-*.parquet")
    assert {row["action"] for row in pq.read_table(cleaned).to_pylist()} == {"rewrite"}


def clean_by(url: str, how: dict[str, Any], texts: list[str], folder: Path) -> tuple[list[Any], Any]:
    """The rows and the summary of `radtune clean`, of texts each found chatty."""
    head = [{"tag": "CAPTION", "split": "train", "n": str(n)} for n in range(len(texts))]
    said = [{"sample": of["n"], "parts": json.dumps({"text": text}), "status": "kept"} | of for of, text in
            zip(head, texts, strict=True)]  # fmt: skip
    why = {"kind": "chatty", "field": "text", "evidence": "", "note": ""}
    pq.write_table(pa.Table.from_pylist(said), folder / "samples.parquet")
    pq.write_table(pa.Table.from_pylist([why | {"id": of["n"]} | of for of in head]), folder / "wording.parquet")
    cleaning = {"action": "rewrite", "kinds": ["chatty"], "base_url": url, "model": "any", "similarity": 20}
    command = [sys.executable, "-c", "from radtune.cli import main; main()", "clean"]
    command += [f"--{name}={folder / name}.parquet" for name in ("samples", "wording")]
    command += [f"--cleaning={json.dumps(cleaning)}", f"--server={json.dumps(how)}"]
    command += [f"--prompt={ROOT / 'config/prompts/rewrite.yaml'}", f"--out={folder / 'cleaned' / 'a.parquet'}"]
    subprocess.run([*command, f"--summary={folder / 'cleaned' / 'a.json'}"], check=True)
    return pq.read_table(folder / "cleaned" / "a.parquet").to_pylist(), read_json(folder / "cleaned" / "a.json")


def test_llamafactory_s_own_server_is_asked_and_its_babble_refused(tmp_path: Path) -> None:
    """A random model of the real class, served as anybody would serve a model with LLaMA-Factory."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "API_HOST": "127.0.0.1", "API_PORT": str(port), "HF_HUB_OFFLINE": "1"}
    radtune = [sys.executable, "-c", "from radtune.cli import main; main()"]
    for command in (
        ["draw-practice", "--images=20", "--seed=0", f"--out={tmp_path / 'practice'}"],
        ["build-tiny", "--corpus", f"{tmp_path}/practice/train.json", "--seed=0", f"--out={tmp_path / 'model'}"],
    ):
        subprocess.run([*radtune, *command], check=True, capture_output=True)
    settings = {"model_name_or_path": str(tmp_path / "model"), "template": "qwen3_vl_nothink"}
    (tmp_path / "api.yaml").write_text(yaml.safe_dump(settings | {"infer_backend": "huggingface"}))
    program = [str(Path(sys.executable).parent / "llamafactory-cli"), "api", str(tmp_path / "api.yaml")]
    texts = ["A hyperdense area of 1.3% lies on the left side.", f"{CHATTY}there is an infarct.", "左侧额叶高密度影。"]
    with (tmp_path / "log").open("w") as log, subprocess.Popen(program, env=environment, stdout=log, stderr=log) as api:
        try:
            while "Uvicorn running" not in (tmp_path / "log").read_text():
                assert api.poll() is None, (tmp_path / "log").read_text()[-3000:]
                time.sleep(0.5)
            given = {"system": "Edit the text.", "base_url": f"http://127.0.0.1:{port}/v1", "model": "any"}
            how = {"concurrency": 2, "timeout": 120.0, "retries": 2, "price": {"input": 1.0, "output": None}}
            found = ask_all(texts, cache=tmp_path / "rewrites.jsonl", **given, **how)
            rows, summary = clean_by(given["base_url"], how, texts, tmp_path)
        finally:
            api.terminate()
    assert [(row["id"], row["action"], row["parts"]) for row in rows] == [(str(n), "keep", None) for n in range(3)]
    assert {row["reason"] for row in rows} <= REFUSALS.keys()
    assert (summary["texts"]["asked"], summary["texts"]["rewritten"]) == (3, 0)
    assert summary["tokens"][0] > 0
    assert summary["cost"] > 0
    assert set(found) == set(texts)
    for text, told in found.items():
        assert told["tokens"][0] > 0
        assert told["tokens"][1] > 0
        assert told["failed"] == "cut" or refusal(text, told["text"], ["chatty"])
    assert ask_all(texts, cache=tmp_path / "rewrites.jsonl", **given, **how) == found  # the server is gone
