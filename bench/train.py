"""Training flags against each other on phantoms and a tiny Qwen3-VL: samples and tokens a second of the training loop,
and the share of padding among the tokens that the model is given.

python bench/train.py [--samples 240]

The public recipe's flags (config/reference.yaml), whose images are 196 tokens, as they are, packed, grouped by length,
and with none or two workers that load data in place of one; then the demo's, whose images are nine. All train once over
the same samples, as the configs say but for what a CPU cannot do (bf16) and what is no part of the loop (evaluation,
checkpoints).
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from radtune.config import resolve
from radtune.files import read_json
from radtune.train import launch, tiny

ROOT = Path(__file__).parents[1]
ALIKE = {"bf16": False, "num_train_epochs": 1, "eval_strategy": "no", "save_strategy": "no"}
ALIKE |= {"preprocessing_num_workers": 1, "dataloader_num_workers": 1}
# some 16 samples an update, as the reference has
PACKED = {"neat_packing": True, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 3}
GROUPED = {"group_by_length": True}
UNPACKED = {"neat_packing": False, "per_device_train_batch_size": 16}  # the demo's samples a step


def flags(name: str, experiment: str) -> dict[str, Any]:
    """The training arguments of a shipped config's experiment."""
    config = resolve(yaml.safe_load((ROOT / "config" / name).read_text(encoding="utf-8")))
    return config["experiments"][experiment]["training"] | ALIKE


def prepared(folder: Path, samples: int) -> dict[str, Any]:
    """Phantoms at 448x448 with Chinese prompts as ShareGPT, and a random model: what launch.train reads."""
    phantom = {"source": "phantom", "phantom": {"images": samples // 5}}  # six rows an image, a tenth not for training
    changed = {"results": str(folder / "results"), "dataset": phantom, "images": {"enhanced": {"size": 448}}}
    changed |= {"prompts": {"language": "zh"}, "split": {"fractions": {"train": 0.9, "validation": 0.05, "test": 0.05}}}
    (folder / "phantoms.yaml").write_text(yaml.safe_dump(changed))
    configs = ["--configfile", "config/demo.yaml", str(folder / "phantoms.yaml")]
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *configs, "--", "prepare"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (sharegpt,) = (folder / "results").glob("sharegpt/*/")
    tiny.build(folder / "model", [sharegpt / "train.json", ROOT / "config" / "prompts" / "zh.yaml"])
    return {"model": folder / "model", "dataset_dir": sharegpt, "media_dir": folder / "results" / "images"}


def run(settings: dict[str, Any], places: dict[str, Any], count: str, out: Path) -> tuple[float, int]:
    """Seconds of the training loop, and the tokens that it counted: all or non_padding."""
    settings = settings | {"include_num_input_tokens_seen": count}
    launch.train(settings, **places, dataset="train", out=out, weights=out / "adapter")
    state = read_json(next(out.glob("run-*")) / "trainer_state.json")
    return read_json(out / "summary.json")["runtime"], state["num_input_tokens_seen"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=240)
    samples = parser.parse_args().samples
    reference, demo = flags("reference.yaml", "reference"), flags("demo.yaml", "lora")
    other = {f"reference, workers {n}": reference | {"dataloader_num_workers": n} for n in (0, 2)}
    ways = [
        {"reference": reference, "reference packed": reference | PACKED, "reference grouped": reference | GROUPED}
        | other,
        {"demo unpacked": demo | UNPACKED, "demo grouped": demo | UNPACKED | GROUPED, "demo": demo},
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        places = prepared(folder, samples)
        for n, alike in enumerate(ways):
            padded = next(iter(alike.values())) | {"max_samples": samples}
            _, tokens = run(padded, places, "non_padding", folder / f"count{n}")  # which a pack's mask would not tell
            for way, settings in alike.items():
                seconds, given = run(settings | {"max_samples": samples}, places, "all", folder / way)
                print(
                    f"{way}: {samples / seconds:.2f} samples/s, {tokens / seconds:.0f} tokens/s,"
                    f" padding {1 - tokens / given:.1%} of {given} tokens, {seconds:.1f} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
