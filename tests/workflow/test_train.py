"""Train a tiny Qwen3-VL for real: in full, then LoRA with a kill in between, then predict with both."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image, ImageDraw

from radtune import files
from radtune.predict import answers, generate
from radtune.train import launch, llamafactory, merge, tiny

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow
HALF, STEPS = 30, 60  # of the LoRA run: 8 an epoch, saved and evaluated every 6
LIMITS = {"image_max_pixels": 128 * 96, "image_min_pixels": 64 * 64}
PROMPTS = {"SHADE": "Is the spot bright or dark?", "PLACE": "亮斑在左边还是右边？"}
COMMON: dict[str, Any] = {
    **LIMITS,
    "template": "qwen3_vl_nothink",
    "cutoff_len": 256,
    "per_device_train_batch_size": 4,
    "per_device_eval_batch_size": 4,
    "logging_steps": 5,
    "seed": 1,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A media folder of spots in three sizes, one above and one below LIMITS, and ShareGPT files train and val."""
    root = tmp_path_factory.mktemp("data")
    rng = random.Random(0)
    (root / "images").mkdir()
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    columns = {"messages": "messages", "images": "images"}
    info = {}
    for split, count in (("train", 32), ("val", 10)):
        records = []
        for n in range(count):
            width, height = rng.choice([(64, 64), (256, 192), (48, 40)])
            bright, left = rng.random() < 0.5, rng.random() < 0.5
            image = Image.new("L", (width, height), 90)
            x = width * (0.15 if left else 0.6)
            ImageDraw.Draw(image).ellipse((x, height * 0.3, x + width * 0.25, height * 0.7), fill=230 if bright else 10)
            name = f"images/{split}{n}.png"
            image.save(root / name)
            tag = rng.choice(list(PROMPTS))
            answer = ("bright" if bright else "dark") if tag == "SHADE" else ("左" if left else "右") + "边有一个斑点"
            turns = [("user", f"<image>{PROMPTS[tag]}"), ("assistant", answer)]
            messages = [{"role": role, "content": content} for role, content in turns]
            id = f"{split}{sum(record['tag'] == tag for record in records)}"  # under each tag, as in the data set
            records.append({"id": id, "tag": tag, "group": str(n), "messages": messages, "images": [name]})
        files.write_json(root / f"{split}.json", records)
        info[split] = {"file_name": f"{split}.json", "formatting": "sharegpt", "columns": columns, "tags": tags}
    files.write_json(root / "dataset_info.json", info)
    (root / "prompts.yaml").write_text(yaml.safe_dump(PROMPTS, allow_unicode=True), encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def random_model(data: Path) -> Path:
    out = data / "random"
    tiny.build(out, [data / "train.json", data / "prompts.yaml"])
    return out


def arguments(data: Path, model: Path, name: str, **settings: Any) -> dict[str, Any]:
    return {
        "settings": COMMON | settings,
        "model": model,
        "adapter": None,
        "dataset_dir": data,
        "media_dir": data,
        "dataset": "train",
        "eval_dataset": "val" if "eval_strategy" in settings else None,
        "out": data / name,
        "weights": data / name / "weights",
    }


@pytest.fixture(scope="module")
def base(data: Path, random_model: Path) -> Path:
    """The tiny model after a few steps of full training."""
    call = arguments(data, random_model, "base", finetuning_type="full", max_steps=10, learning_rate=1e-3)
    launch.train(call.pop("settings"), **call)
    return call["weights"]


def lora(data: Path, base: Path, name: str, **changes: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "finetuning_type": "lora",
        "lora_rank": 4,
        "lora_target": "all",
        "lora_dropout": 0.1,
        "learning_rate": 5e-3,
        "lr_scheduler_type": "constant",
        "max_steps": STEPS,
        "save_steps": 6,
        "eval_strategy": "steps",
        "eval_steps": 6,
        "logging_steps": 2,  # whatever checkpoint a run resumes from, a mean over the steps since the last log is whole
    }
    return arguments(data, base, name, **settings | changes)


def start(call: dict[str, Any], log: Path) -> subprocess.Popen[bytes]:
    """launch.train(**call) in a process of its own, which leads a process group."""
    script = (
        "import json; from pathlib import Path; from radtune.train import launch\n"
        f"call = json.loads({json.dumps(call, default=str)!r}); settings = call.pop('settings')\n"
        "names = ('dataset', 'eval_dataset')\n"
        "launch.train(settings, **{key: call[key] if key in names else call[key] and Path(call[key]) for key in call})"
    )
    with log.open("wb") as file:
        return subprocess.Popen([sys.executable, "-c", script], stdout=file, stderr=file, start_new_session=True)


def trained(call: dict[str, Any]) -> str:
    """The log of launch.train(**call)."""
    log = call["dataset_dir"] / "train.log"
    code = start(call, log).wait()
    text = log.read_text(encoding="utf-8")
    assert code == 0, text
    return text


@pytest.fixture(scope="module")
def undisturbed(data: Path, base: Path) -> Path:
    call = lora(data, base, "undisturbed")
    trained(call)
    return call["out"]


@pytest.fixture(scope="module")
def resumed(data: Path, base: Path) -> tuple[Path, list[str]]:
    """The folder of a LoRA run of HALF steps, killed in its second epoch, run again and then trained on to STEPS; the
    logs of the last two.
    """
    call = lora(data, base, "lora", max_steps=HALF)
    process = start(call, data / "killed.log")
    deadline = time.monotonic() + 600
    while not list(call["out"].glob("run-*/checkpoint-12/trainer_state.json")):
        assert process.poll() is None, "the trainer ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (run_dir,) = call["out"].glob("run-*")
    assert not (run_dir / "trainer_state.json").exists()
    heartbeat = files.read_json(call["out"] / "heartbeat.json")
    assert 12 <= heartbeat["step"] < heartbeat["steps"] == HALF
    assert heartbeat["loss"] > 0
    assert time.time() - 60 < heartbeat["time"] <= time.time()
    (run_dir / "checkpoint-999").mkdir()  # what a kill in the midst of saving leaves
    (run_dir / "checkpoint-999" / "adapter_model.safetensors").write_bytes(b"half")
    (call["out"] / "run-old").mkdir()
    return call["out"], [trained(call), trained(lora(data, base, "lora"))]


def test_the_tiny_model_is_the_same_again_and_takes_an_image_as_it_is(data: Path, random_model: Path) -> None:
    from transformers import AutoProcessor

    tiny.build(data / "again", [data / "train.json", data / "prompts.yaml"])
    for path in random_model.iterdir():
        assert path.read_bytes() == (data / "again" / path.name).read_bytes(), path.name
    processor = AutoProcessor.from_pretrained(random_model)
    grid = processor.image_processor(Image.new("RGB", (224, 224)), return_tensors="pt")["image_grid_thw"]
    assert grid.prod() // 4 == 49
    for text in (PROMPTS["PLACE"], "Not in the corpus: çäß 12.5 %\n"):
        assert processor.tokenizer.decode(processor.tokenizer(text)["input_ids"]) == text


def test_changed_inputs_are_another_run(data: Path, random_model: Path) -> None:
    call = arguments(data, random_model, "digest")
    del call["out"], call["weights"]
    image = data / "images" / "train0.png"
    pixels = image.read_bytes()
    digests = [launch._digest(call.pop("settings"), **call), launch._digest({}, **call)]
    digests.append(launch._digest({}, **call | {"eval_dataset": "val"}))
    image.write_bytes(pixels + b"0")
    digests.append(launch._digest({}, **call))
    image.write_bytes(pixels)
    assert len(set(digests)) == 4
    assert launch._digest({}, **call) == digests[1]


def test_full_training_gives_a_whole_model(base: Path, random_model: Path) -> None:
    names = {path.name for path in base.iterdir()}
    assert names >= {"model.safetensors", "config.json", "tokenizer.json", "preprocessor_config.json"}
    assert not names & {"trainer_state.json", "training_args.bin", "lock"}
    for name in ("shortest_edge", "longest_edge"):
        sizes = [files.read_json(path / "preprocessor_config.json")["size"][name] for path in (base, random_model)]
        assert sizes[0] == sizes[1]
    assert files.read_json(base.parent / "summary.json")["steps"] == 10


def test_a_killed_run_goes_on_from_its_checkpoint(resumed: tuple[Path, list[str]]) -> None:
    out, (log, _) = resumed
    assert "checkpoint-999: half written, removed." in log
    assert "Resuming training from" in log
    assert f"step {HALF} of {HALF}, loss " in log
    (run_dir,) = out.glob("run-*")  # run-old is gone
    saved = {int(path.name.split("-")[1]) for path in run_dir.glob("checkpoint-*")}
    assert saved == {*range(6, STEPS + 1, 6), *range(8, STEPS, 8)}  # at epoch ends too
    assert (out / "loss.png").stat().st_size > 5000


def test_killed_and_trained_on_it_is_the_undisturbed_run(resumed: tuple[Path, list[str]], undisturbed: Path) -> None:
    out, (_, log) = resumed
    assert f"was trained for max_steps {HALF}, is now asked for max_steps {STEPS}; trains only what is missing." in log
    assert f"Resuming training from {next(out.glob('run-*'))}/checkpoint-{HALF}." in log
    logs = [files.read_jsonl(folder / "trainer_log.jsonl") for folder in (out, undisturbed)]
    assert [row["step"] for row in logs[0] if "loss" in row] == list(range(2, STEPS + 1, 2))
    assert logs[0] == logs[1]
    weights = [(folder / "weights" / "adapter_model.safetensors").read_bytes() for folder in (out, undisturbed)]
    assert weights[0] == weights[1]
    summary = files.read_json(out / "summary.json")
    assert (summary["steps"], summary["max_steps"], summary["eval_loss"]["final_step"]) == (STEPS, STEPS, STEPS)
    heartbeat = files.read_json(out / "heartbeat.json")
    assert (heartbeat["step"], heartbeat["seconds_left"], heartbeat["loss"]) == (STEPS, 0, summary["loss"]["final"])


def test_a_finished_run_is_only_collected_again(data: Path, base: Path, undisturbed: Path) -> None:
    call = lora(data, base, "undisturbed")
    (call["out"] / "summary.json").unlink()
    began = time.monotonic()
    launch.train(call.pop("settings"), **call)
    assert time.monotonic() - began < 5
    assert files.read_json(call["out"] / "summary.json")["steps"] == STEPS


def test_packed_samples_have_the_losses_of_the_same_samples_padded(data: Path, base: Path) -> None:
    """All samples in one pack, or in one padded batch: eval loss, and the training losses of three updates."""
    changes = {"max_steps": 3, "logging_steps": 1, "eval_steps": 3, "lora_dropout": 0.0}
    ways = {
        "padded": {"per_device_train_batch_size": 32, "per_device_eval_batch_size": 10},
        "packed": {"neat_packing": True, "cutoff_len": 1024, "per_device_train_batch_size": 1},
    }
    losses = []
    for name, way in ways.items():
        call = lora(data, base, name, **changes | way)
        trained(call)
        assert files.read_json(call["out"] / "summary.json")["epochs"] == 3  # one step each
        log = files.read_jsonl(call["out"] / "trainer_log.jsonl")
        losses.append([row[key] for row in log for key in ("loss", "eval_loss") if key in row])
    assert losses[0] == pytest.approx(losses[1], abs=2e-4)  # the log rounds to four places
    assert losses[0][0] - losses[0][-1] > 0.01  # and they move


def test_the_best_checkpoint_is_kept_and_training_stops_when_it_gets_worse(data: Path, base: Path) -> None:
    best = {"load_best_model_at_end": True, "early_stopping_steps": 1}
    call = lora(data, base, "best", **best, learning_rate=0.3, eval_steps=2, save_steps=2, max_steps=30)
    trained(call)
    summary = files.read_json(call["out"] / "summary.json")
    assert summary["eval_loss"]["best_step"] < summary["steps"] < 30
    (run_dir,) = call["out"].glob("run-*")
    checkpoint = run_dir / f"checkpoint-{summary['eval_loss']['best_step']}"
    kept = [path / "adapter_model.safetensors" for path in (call["weights"], checkpoint)]
    assert kept[0].read_bytes() == kept[1].read_bytes()
    assert files.read_json(call["out"] / "heartbeat.json")["seconds_left"] == 0


HANGS = """
import os, sys
if "radtune.train.rank" in sys.orig_argv and "LOCAL_RANK" in os.environ:  # not torchrun itself
    import atexit, time
    atexit.register(time.sleep, 600)
"""


def test_two_processes_go_on_from_an_adapter_and_are_ended_when_they_hang(
    data: Path, base: Path, resumed: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "sitecustomize.py").write_text(HANGS)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("FORCE_TORCHRUN", "1")
    monkeypatch.setenv("NPROC_PER_NODE", "2")
    monkeypatch.setattr(launch, "EXIT_SECONDS", 1)
    first = resumed[0] / "weights"
    call = lora(data, base, "two", max_steps=3, eval_steps=2, learning_rate=1e-9) | {"adapter": first}
    launch.train(call.pop("settings"), **call)
    log = capfd.readouterr().err
    assert "world size: 2" in log
    assert "trained, but the trainer did not end; ended here." in log
    summary = files.read_json(call["out"] / "summary.json")
    assert summary["epochs"] == 0.75  # three steps of two batches of four
    assert summary["eval_loss"]["final_step"] == 3  # though evaluated every two
    assert not list(call["out"].glob("run-*/eval_results.json"))  # and not once more
    import torch
    from safetensors.torch import load_file

    before, after = (load_file(path / "adapter_model.safetensors") for path in (first, call["weights"]))
    assert before.keys() == after.keys()
    assert all(torch.allclose(before[key], after[key], atol=1e-6) for key in before)


def test_llamafactory_understands_every_reference_argument() -> None:
    """Its own parser has each argument of config/reference.yaml at its value, and one that radtune never heard of."""
    from llamafactory.hparams import get_train_args

    training = yaml.safe_load((ROOT / "config" / "reference.yaml").read_text(encoding="utf-8"))["training"]
    places = {"model": Path("m"), "adapter": None, "dataset_dir": Path("d"), "media_dir": Path("i"), "dataset": "train"}
    other = {"use_cpu": True, "use_dft_loss": True}
    text = llamafactory.render(training | other, **places, eval_dataset=None, output_dir=Path("out"))
    parsed: dict[str, Any] = {}
    for arguments in get_train_args(yaml.safe_load(text)):
        parsed |= vars(arguments)
    assert {key: parsed[key] for key in training} == training | {"lora_target": ["all"]}
    assert parsed["use_dft_loss"] is True


def test_an_unknown_argument_is_named(data: Path, random_model: Path) -> None:
    call = arguments(data, random_model, "typo", finetuning_type="full", learning_rat=1e-3)
    with pytest.raises(files.UserError, match="learning_rat") as caught:
        launch.train(call.pop("settings"), **call)
    assert "\n" not in str(caught.value)


def predict(
    base: Path, adapter: Path | None, data: Path, out: Path, batch_size: int, **more: Any
) -> list[dict[str, Any]]:
    places: dict[str, Any] = {"sharegpt": data / "val.json", "media_dir": data, "out": out, "adapter": adapter}
    generate.predict(base, **places, **{"max_new_tokens": 12, "batch_size": batch_size} | more, **LIMITS)
    return files.read_jsonl(out)


def without_seconds(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def test_neither_batch_size_nor_cache_changes_an_answer(
    data: Path, base: Path, resumed: tuple[Path, list[str]], tmp_path: Path
) -> None:
    adapter = resumed[0] / "weights"
    rows = [predict(base, adapter, data, tmp_path / f"{size}.jsonl", size) for size in (1, 4)]
    assert without_seconds(rows[0]) == without_seconds(rows[1])
    static = predict(base, adapter, data, tmp_path / "static.jsonl", 4, cache="static")
    assert without_seconds(rows[0]) == without_seconds(static)
    assert [row["id"] for row in rows[0]] == [record["id"] for record in files.read_json(data / "val.json")]
    assert list(rows[0][0]) == [
        "id", "tag", "group", "image", "prompt", "prediction", "reference", "seconds", "tokens", "stopped",
    ]  # fmt: skip
    assert rows[0][0]["prompt"] in PROMPTS.values()
    assert any(row["stopped"] and row["prediction"] for row in rows[0])
    assert without_seconds(predict(base, None, data, tmp_path / "base.jsonl", 4)) != without_seconds(rows[0])


def answered_tokens(model: Path, data: Path, batch_size: int, end: int | None = None) -> list[list[int]]:
    """The token ids of the answers, of at most 48 each, to all samples of both splits; `end` ends one too."""
    loaded, processor = generate.load(model, None, "cpu", "dynamic")
    if end is not None:
        loaded.generation_config.eos_token_id = [*loaded.generation_config.eos_token_id, end]
    records = [record for split in ("train", "val") for record in files.read_json(data / f"{split}.json")]
    samples = ((record, generate.encode(processor, record, data, **LIMITS)) for record in records)
    found: list[list[int]] = []
    decode = processor.tokenizer.decode
    processor.tokenizer.decode = lambda ids, **how: (found.append(ids), decode(ids, **how))[1]
    for _ in generate.generate(loaded, processor, samples, 48, batch_size, None):
        pass
    return found


def test_batches_answer_token_by_token_as_single_prompts_do(data: Path, random_model: Path) -> None:
    """Of a random model, which ends no answer; then with that token as an end at which most differ in length."""
    alone = answered_tokens(random_model, data, 1)
    assert [len(answer) for answer in alone] == [48] * 42
    assert len(set(map(tuple, alone))) > 10
    for batch_size in (5, 42):
        assert answered_tokens(random_model, data, batch_size) == alone

    def ended(at: int) -> list[list[int]]:
        return [answer[: answer.index(at)] if at in answer else answer for answer in alone]

    end = max({token for answer in alone for token in answer}, key=lambda token: len({*map(len, ended(token))}))
    assert len({*map(len, ended(end))}) > 3
    assert answered_tokens(random_model, data, 5, end) == ended(end)


def test_an_answer_that_was_cut_is_marked_as_such(
    data: Path, random_model: Path, base: Path, resumed: tuple[Path, list[str]], tmp_path: Path
) -> None:
    cut = predict(random_model, None, data, tmp_path / "random.jsonl", 4)
    assert all((row["stopped"], row["tokens"]) == (False, 12) for row in cut)  # it ends no answer
    adapter = resumed[0] / "weights"
    whole = predict(base, adapter, data, tmp_path / "whole.jsonl", 4)
    assert all(row["stopped"] for row in whole)
    shortest = min(row["tokens"] for row in whole)  # its end is one token more
    cut = predict(base, adapter, data, tmp_path / "cut.jsonl", 4, max_new_tokens=shortest)
    assert all((row["stopped"], row["tokens"]) == (False, shortest) for row in cut)


def test_chunks_one_after_another_are_the_whole(data: Path, base: Path, tmp_path: Path) -> None:
    whole = predict(base, None, data, tmp_path / "whole.jsonl", 4)
    for count in (3, 12):  # 10 samples
        chunks = [f"{n + 1}-of-{count}" for n in range(count)]
        rows = [
            row for chunk in chunks for row in predict(base, None, data, tmp_path / f"{chunk}.jsonl", 4, chunk=chunk)
        ]
        assert without_seconds(rows) == without_seconds(whole)
    for chunk in ("0-of-3", "4-of-3", "half"):
        with pytest.raises(files.UserError, match=f"chunk {chunk}: must be one of 1-of-N to N-of-N"):
            predict(base, None, data, tmp_path / "wrong.jsonl", 4, chunk=chunk)


def test_two_samples_of_one_name_are_refused(data: Path, base: Path, tmp_path: Path) -> None:
    record = files.read_json(data / "val.json")[0]
    files.write_json(tmp_path / "val.json", [record, record])
    with pytest.raises(files.UserError, match=f"sample val0 stands there 2 times under {record['tag']}"):
        predict(base, None, tmp_path, tmp_path / "out.jsonl", 4)


def test_answers_are_those_of_llamafactorys_own_prediction(
    data: Path, base: Path, resumed: tuple[Path, str], tmp_path: Path
) -> None:
    adapter = resumed[0] / "weights"
    settings: dict[str, Any] = LIMITS | {
        **{"stage": "sft", "finetuning_type": "lora", "do_predict": True, "predict_with_generate": True},
        **{"model_name_or_path": str(base), "adapter_name_or_path": str(adapter), "template": COMMON["template"]},
        **{"eval_dataset": "val", "dataset_dir": str(data), "media_dir": str(data), "output_dir": str(tmp_path)},
        **{"do_sample": False, "max_new_tokens": 12, "per_device_eval_batch_size": 1, "report_to": "none"},
    }
    (tmp_path / "predict.yaml").write_text(yaml.safe_dump(settings))
    command = [Path(sys.executable).with_name("llamafactory-cli"), "train", tmp_path / "predict.yaml"]
    environment = os.environ | launch.OFFLINE | {"HF_DATASETS_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout[-4000:]
    theirs = [row["predict"] for row in files.read_jsonl(tmp_path / "generated_predictions.jsonl")]
    ours = predict(base, adapter, data, tmp_path / "val.jsonl", 4)
    assert [row["prediction"] for row in ours] == theirs
    assert len(set(theirs)) > 1


def test_an_interrupted_prediction_repeats_nothing(
    data: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, answer = tmp_path / "val.jsonl", generate._answer
    answered: list[int] = []

    def stop_at_third(*args: Any) -> list[dict[str, Any]]:
        if len(answered) == 2:
            raise KeyboardInterrupt
        answered.append(1)
        return answer(*args)

    monkeypatch.setattr(generate, "_answer", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        predict(base, None, data, out, 3)
    partial = tmp_path / ".val.jsonl.partial"
    with partial.open("a", encoding="utf-8") as file:
        file.write('{"id": "to')  # the line that a kill tore
    sizes: list[int] = []
    monkeypatch.setattr(generate, "_answer", lambda *args: (sizes.append(len(args[2])), answer(*args))[1])
    rows = predict(base, None, data, out, 3)
    assert sum(sizes) == 10 - 6
    assert not partial.exists()
    assert without_seconds(rows) == without_seconds(predict(base, None, data, tmp_path / "whole.jsonl", 3))

    stale = json.dumps(rows[0] | {"prediction": "stale"})
    partial.write_text(f"of other inputs\n{stale}\n", encoding="utf-8")
    sizes.clear()
    assert without_seconds(predict(base, None, data, out, 3)) == without_seconds(rows)
    assert sum(sizes) == 10


@pytest.mark.parametrize("size", [(20, 90), (6000, 28), (10, 4000), (256, 192), (64, 64), (3, 3)])
def test_pictures_are_resized_as_in_training(tmp_path: Path, size: tuple[int, int]) -> None:
    """The narrow ones too, which no recipe of the workflow makes."""
    from llamafactory.data.template import TEMPLATES

    noise = random.Random(0).randbytes(size[0] * size[1] * 3)
    Image.frombytes("RGB", size, noise).save(tmp_path / "image.png")
    limits = (LIMITS["image_max_pixels"], LIMITS["image_min_pixels"])
    plugin = TEMPLATES["qwen3_vl_nothink"].mm_plugin
    with Image.open(tmp_path / "image.png") as image:
        theirs = plugin._preprocess_image(image, **LIMITS)
        ours = answers.fitted(tmp_path / "image.png", *limits)
        assert (ours.size, ours.tobytes()) == (theirs.size, theirs.tobytes())


def test_prompts_are_encoded_as_in_training(data: Path, base: Path) -> None:
    """LLaMA-Factory's own template and image plugin give the same token ids and the same pixels."""
    import torch
    from llamafactory.data.template import TEMPLATES
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(base)
    theirs = AutoProcessor.from_pretrained(base)
    for name, value in LIMITS.items():
        setattr(theirs, name, value)
    template = TEMPLATES["qwen3_vl_nothink"]
    for record in files.read_json(data / "val.json"):
        ours = generate.encode(processor, record, data, **LIMITS)
        images = [str(data / image) for image in record["images"]]
        messages = template.mm_plugin.process_messages(record["messages"], images, [], [], theirs)
        prompt, _ = template.encode_oneturn(theirs.tokenizer, messages)
        assert ours["input_ids"].tolist() == prompt
        inputs = template.mm_plugin.get_mm_inputs(images, [], [], [1], [0], [0], [prompt], theirs)
        assert torch.equal(ours["image_grid_thw"], inputs["image_grid_thw"])
        assert torch.equal(ours["pixel_values"], inputs["pixel_values"])


def test_the_longest_prompts_come_first_and_then_tag_by_tag(data: Path, random_model: Path) -> None:
    from transformers import AutoProcessor

    records = files.read_json(data / "val.json")
    turns = [{"role": "user", "content": "<image>" + "spot " * 99}, {}]
    long = [record | {"messages": turns} for record in records[:2]]
    given = [*records[:5], *long, *records[5:]]
    ordered = generate.by_length(AutoProcessor.from_pretrained(random_model), given, data, **LIMITS)
    assert sorted(map(str, ordered)) == sorted(map(str, given))
    assert all(record in long for record in ordered[:2])
    tags = [record["tag"] for record in ordered[2:]]
    assert len(set(tags)) == 2
    assert tags == sorted(tags, reverse=True)


def test_the_adapter_loads_in_peft(base: Path, resumed: tuple[Path, list[str]]) -> None:
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    adapter = resumed[0] / "weights"
    assert sorted(path.name for path in adapter.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    model = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(base), adapter)
    weights = [weight for name, weight in model.named_parameters() if "lora_B" in name]
    assert weights
    assert any(weight.abs().sum() > 0 for weight in weights)


OUT_OF_MEMORY = """
import sys
if "radtune.train.rank" in sys.orig_argv:  # the trainer, and no other process of this Python
    import torch
    step, steps = torch.optim.AdamW.step, []
    def run_out(self, *args, **kwargs):
        steps.append(0)
        if len(steps) == 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total of 24 GiB.")
        return step(self, *args, **kwargs)
    torch.optim.AdamW.step = run_out
"""


def test_a_trainer_without_memory_names_the_setting_and_keeps_its_checkpoints(
    data: Path, random_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    call = arguments(data, random_model, "memory", finetuning_type="full", max_steps=6, save_steps=2)
    settings = call.pop("settings")
    (tmp_path / "sitecustomize.py").write_text(OUT_OF_MEMORY)
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        with pytest.raises(files.UserError) as caught:
            launch.train(settings, **call)
    sentence = str(caught.value)
    assert sentence.startswith(f"{call['out'] / 'train.yaml'}: training failed: out of GPU memory (")
    assert "asked for 2.00 GiB more): lower per_device_train_batch_size (now 4) or cutoff_len (now 256)" in sentence
    assert "\n" not in sentence
    assert "in _inner_training_loop" in capfd.readouterr().err  # the log has the whole way
    (checkpoint,) = call["out"].glob("run-*/checkpoint-*")
    assert checkpoint.name == "checkpoint-2"
    launch.train(settings, **call)
    assert "Resuming training from" in capfd.readouterr().err
    assert files.read_json(call["out"] / "summary.json")["steps"] == 6


def test_a_trainer_without_its_gpu_says_so(data: Path, random_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    call = arguments(data, random_model, "no-gpu", finetuning_type="full", max_steps=1)
    with pytest.raises(files.UserError, match="training failed: torch sees 0 GPUs, but 1 was promised to this job"):
        launch.train(call.pop("settings"), **call, gpu_memory_gib=24)


LIMITED = """
import json, resource, sys
from pathlib import Path
from radtune import files
from radtune.predict import generate
load = generate.load
def with_little_memory(*args):
    loaded = load(*args)
    lines = Path("/proc/self/status").read_text().splitlines()
    used = next(int(line.split()[1]) for line in lines if line.startswith("VmData:")) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (used + 400 * 2**20, -1))
    return loaded
generate.load = with_little_memory
call = json.loads(sys.argv[1])
try:
    generate.predict(**{key: Path(value) if isinstance(value, str) else value for key, value in call.items()})
except files.UserError as error:
    sys.exit(str(error))
"""


def test_a_batch_that_runs_out_of_memory_is_halved(data: Path, random_model: Path, tmp_path: Path) -> None:
    """For real: 32 prompts of 1200 to 1600 tokens want 800 MiB of the machine's memory, one 150; 400 are left."""
    records = files.read_json(data / "train.json")
    for n, record in enumerate(records):
        record["messages"][0]["content"] += " bright dark" * (600 + 6 * n)
    long = files.read_json(data / "train.json")[0] | {"id": "long"}
    long["messages"][0]["content"] += " bright dark" * 15000  # the attention's mask alone is 900 MB

    def run(name: str, records: list[dict[str, Any]]) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
        files.write_json(tmp_path / f"{name}.json", records)
        places = {"sharegpt": tmp_path / f"{name}.json", "media_dir": data, "out": tmp_path / f"{name}.jsonl"}
        call: dict[str, Any] = LIMITS | places | {"model": random_model, "max_new_tokens": 4, "batch_size": 32}
        command = [sys.executable, "-c", LIMITED, json.dumps(call, default=str)]
        alone = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}  # what fits hangs on no thread's timing
        return subprocess.run(command, env=alone, stderr=subprocess.PIPE, text=True, check=False), call

    done, _ = run("long", [*records, long])
    assert done.returncode == 1
    halved = [f"out of memory with {n} prompts: going on with {n // 2}." for n in (32, 16, 8, 4, 2)]
    assert done.stderr.splitlines()[:-1] == halved
    assert done.stderr.splitlines()[-1].startswith("out of the machine's memory")
    assert done.stderr.endswith(
        "lower image_max_pixels (now 12288) or max_new_tokens (now 4); finished samples are kept.\n"
    )

    done, call = run("all", records)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == halved[: done.stderr.count("\n")] != []
    rows = files.read_jsonl(call["out"])
    generate.predict(**call | {"out": tmp_path / "whole.jsonl"})
    assert without_seconds(rows) == without_seconds(files.read_jsonl(tmp_path / "whole.jsonl"))
    assert [row["id"] for row in rows] == [record["id"] for record in records]


def test_a_merged_model_answers_as_base_and_adapter_do(
    data: Path, base: Path, resumed: tuple[Path, Any], tmp_path: Path
) -> None:
    adapter, model = resumed[0] / "weights", tmp_path / "model"
    merge.merge(base, adapter, model, template=COMMON["template"])
    whole = without_seconds(predict(model, None, data, tmp_path / "whole.jsonl", 4))
    assert whole == without_seconds(predict(base, adapter, data, tmp_path / "tuned.jsonl", 4))
    assert whole != without_seconds(predict(base, None, data, tmp_path / "base.jsonl", 4))


@pytest.mark.parametrize(("spoil", "words"), [("drop", "1 tensors differ"), ("cut", "size mismatch for ")])
def test_an_adapter_of_another_model_is_refused(
    base: Path, resumed: tuple[Path, Any], tmp_path: Path, spoil: str, words: str
) -> None:
    from safetensors.torch import load_file, save_file

    adapter = Path(shutil.copytree(resumed[0] / "weights", tmp_path / "adapter"))
    merge.check_adapter(base, adapter)
    weights = load_file(adapter / "adapter_model.safetensors")
    name = min(weights)
    tensor = weights.pop(name)
    save_file(
        weights | ({name: tensor[:1, :1].clone()} if spoil == "cut" else {}), adapter / "adapter_model.safetensors"
    )
    with pytest.raises(files.UserError, match=f"is no adapter of .*{words}"):
        merge.check_adapter(base, adapter)
