"""radtune STAGE --explicit-file-arguments: what the rules call, and what a person can call without Snakemake.

Each command is the stage's own function, imported when it is called, so that every command starts at once and only
those that run a model load torch.
"""

from __future__ import annotations

import gc
import os
import sys
from contextlib import nullcontext
from pathlib import Path

from cyclopts import App, Parameter

from radtune import files
from radtune.flags import Json


def compare(a: Path, b: Path, *, out: Path | None = None) -> None:
    """Hold two finished results folders against each other, experiment by experiment: a table here, a page at `out`."""
    from radtune.evaluate.between import between, table
    from radtune.report.comparison import write_comparison

    found = between(a, b)
    print(table(found))
    if out:
        write_comparison(found, out)


def write_config(config: Json, out: Path) -> None:
    """The resolved config as YAML, for the record."""
    import yaml

    files.write_text(out, yaml.safe_dump(config, allow_unicode=True, sort_keys=False))


app = App(
    name="radtune",
    help="Medical images with text to a LoRA-tuned Qwen3-VL and an honest report.",
    default_parameter=Parameter(consume_multiple=True, negative=(), json_dict=True),
    help_format="plaintext",
)
for name, function in {
    "write-config": "radtune.cli:write_config",
    "draw-phantoms": "radtune.data.phantom:write_dataset",
    "draw-practice": "radtune.data.phantom:write_practice",
    "import-dicom": "radtune.data.dicom:import_dicom",
    "list-shards": "radtune.data.source:list_shards",
    "fetch-shard": "radtune.data.source:fetch_shard",
    "index": "radtune.data.index:index",
    "merge-index": "radtune.data.index:merge_index",
    "scan": "radtune.images.scan:scan",
    "split": "radtune.data.split:split",
    "check": "radtune.data.check:check",
    "find-wording": "radtune.clean.wording:find_wording",
    "clean": "radtune.clean.rewrite:clean",
    "enhance": "radtune.images.enhance:enhance",
    "sharegpt": "radtune.data.sharegpt:write_sharegpt",
    "reword": "radtune.data.sharegpt:reword",
    "add-cases": "radtune.data.add_cases:add_cases",
    "preview": "radtune.report.preview:write_preview",
    "fetch-model": "radtune.hubs:download_model",
    "build-tiny": "radtune.train.tiny:build",
    "teach-to-see": "radtune.train.see:teach",
    "preflight": "radtune.train.budget:preflight",
    "train": "radtune.train.launch:train",
    "merge": "radtune.train.merge:merge",
    "predict": "radtune.predict.generate:predict",
    "predict-vllm": "radtune.predict.vllm:predict_vllm",
    "embed-images": "radtune.predict.embed_images:embed_images",
    "build-index": "radtune.predict.retrieve:build_index",
    "find-cases": "radtune.predict.retrieve:find_cases",
    "find-neighbours": "radtune.evaluate.neighbours:find_neighbours",
    "embed": "radtune.evaluate.embed:embed",
    "evaluate": "radtune.evaluate.score:evaluate",
    "compare-experiments": "radtune.evaluate.compare:compare",
    "compare": "radtune.cli:compare",
    "report": "radtune.report.page:write_report",
    "card": "radtune.report.card:write_card",
    "prepare-reading": "radtune.read.prepare:prepare",
    "similar-cases": "radtune.read.cases:similar_cases",
    "write-reading": "radtune.read.write:write_reading",
    "read": "radtune.read.command:read",
    "serve": "radtune.read.serve:serve",
}.items():
    app.command(function, name=name)
# pyarrow imports pandas, which nothing here uses, with the first list that it converts: half the time of a short job
SHORT = {"list-shards", "index", "merge-index", "scan", "split", "check", "find-wording", "enhance"}
SHORT |= {"sharegpt", "reword", "add-cases", "preview"}

GPUS = ("/dev/nvidiactl", "/dev/dxg")  # under Linux, under Windows' own Linux

OUTPUT = ("out", "manifest", "leakage_out")  # the argument that names a command's output, or one of them


class _WithoutPandas:
    """A finder for sys.meta_path; its base class would cost more to import than it says."""

    def find_spec(self, name: str, path: object, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name=name)


def tell_torch() -> None:
    """What torch reads from the environment once it is imported; anything set there already stays."""
    # threads that spin while waiting starve each other on a shared machine: one neighbour made training 40 times slow
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if not any(map(os.path.exists, GPUS)):
        # nothing is compiled without one, and bitsandbytes has torch load its compiler: half of a training's start
        os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")


def main() -> None:
    """Run one stage; a UserError or a disk that cannot be written is one sentence and exit status 1."""
    tell_torch()
    if sys.argv[1:2] and sys.argv[1] in SHORT:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy starts a thread a core when it is imported
        sys.meta_path.insert(0, _WithoutPandas())
    out = None
    try:
        command, bound, _ = app.parse_args()
        out = next((bound.arguments[name] for name in OUTPUT if isinstance(bound.arguments.get(name), Path)), None)
        gc.freeze()  # imports stay to the end; to look them through again is a fifth of a start
        with files.claiming(out) if out else nullcontext():
            command(*bound.args, **bound.kwargs)
    except (files.UserError, OSError) as error:
        told = files.disk_error(error, out) if isinstance(error, OSError) else error
        if told is None:
            raise
        print(f"radtune: {told}", file=sys.stderr)
        raise SystemExit(1) from None
