"""What the rules share: the resolved config, and the files that belong to a shard, a recipe, a dataset, an experiment."""

import atexit
import errno
import gc
import hashlib
import json
import os
import shlex
import shutil
import sys
import threading
from functools import cache
from pathlib import Path

import snakemake.dag
import snakemake.io
import yaml
from snakemake.settings.types import DeploymentMethod

# Snakemake imports pandas, which only the trainer has it for, at each start to look for its tables among the params: a
# fifth of the start
sys.modules.setdefault("pandas", None)
# a plan's many objects stay: to look through them for garbage again and again takes a tenth of planning
gc.set_threshold(200_000)
# nor are they looked through at the end, which would take half a second longer
atexit.register(gc.freeze)

from radtune import code
from radtune.cases import read_wording
from radtune.config import resolve
from radtune.data.prompts import read_prompts, taught
from radtune.files import UserError, disk_error, remove_at_once, write_json
from radtune.hubs import list_files


def whole_folders(remove):
    """Snakemake empties an output folder file by file, before the job's mark stands: a kill in between would leave a
    part of it that counts as complete.
    """

    async def mended(file, **options):
        folder = Path(file)
        if options.get("remove_non_empty_dir") and folder.is_dir() and not folder.is_symlink():
            remove_at_once(folder)
        else:
            await remove(file, **options)

    return mended


def marks_behind_checkpoints(update):
    """Snakemake looks for outputs whose job was cut off before it knows the jobs that a checkpoint adds: what these left
    would count as complete, and as made by the config of the last run that recorded it.
    """

    async def mended(dag):
        if dag.workflow.dag_settings.force_incomplete:
            await dag.check_incomplete()
        await update(dag)

    return mended


snakemake.io.remove = whole_folders(snakemake.io.remove)
snakemake.dag.DAG.postprocess_after_update = marks_behind_checkpoints(snakemake.dag.DAG.postprocess_after_update)

try:
    CONFIG = resolve(config)
except UserError as error:  # one sentence instead of a traceback
    raise SystemExit(f"radtune: {error}")

DATA_FILES = {
    "samples_table": "samples.parquet",
    "quarantine": "quarantine.jsonl",
    "leakage": "leakage.json",
    "checks": "checks.json",
    "disagreements": "disagreements.jsonl",
}
RESULTS = CONFIG["results"]
CONTAINED = DeploymentMethod.APPTAINER in workflow.deployment_settings.deployment_method


def images():
    """The image of each group of rules: published, or, which goes first, built on this machine."""
    paths = [Path("containers/images.yaml"), Path("containers/build/images.yaml")]
    found = dict.fromkeys(("prepare", "train", "evaluate", "vllm"))
    for path in paths:
        found |= yaml.safe_load(path.read_text()) if path.exists() else {}
    return {name: image or f"containers/build/{name}.sif" for name, image in found.items()}


IMAGES = images()
THIS_RUN = f"{RESULTS}/logs/run.json"


onstart:
    needed = {name: image for name, image in IMAGES.items() if name != "vllm" or BY_VLLM}
    missing = [name for name, image in needed.items() if "://" not in image and not os.path.exists(image)]
    if CONTAINED and missing:
        raise SystemExit(
            f"radtune: no image {missing[0]} is published; build it: containers/build.sh {missing[0]}."
        )
    there = next(folder for folder in (Path(RESULTS), *Path(RESULTS).absolute().parents) if folder.exists())
    if not os.access(there, os.W_OK):  # else Snakemake would end in a traceback
        why = errno.EROFS if os.statvfs(there).f_flag & os.ST_RDONLY else errno.EACCES
        raise SystemExit(f"radtune: {disk_error(OSError(why, '', str(there)), None)}")
    # for the report: only the machine that starts a run can tell, and a log makes nothing stale
    git, version = code.git_state(Path(workflow.basedir)), snakemake.__version__
    try:
        write_json(Path(THIS_RUN), {"git": git, "images": needed if CONTAINED else None, "snakemake": version})
    except OSError as error:
        raise SystemExit(f"radtune: {disk_error(error, Path(RESULTS)) or error}")


onsuccess:
    # its rate limiter's would keep Snakemake for a second after the last job
    for timer in threading.enumerate():
        if isinstance(timer, threading.Timer):
            timer.cancel()


onerror:
    # a disk so full that the failed job's log, which lies there too, may have stayed empty
    if shutil.disk_usage(RESULTS).free < 2**20:
        print(f"radtune: {disk_error(OSError(errno.ENOSPC, '', RESULTS), None)}", file=sys.stderr)


def stage(module, without=""):
    """Digests of a stage's code and of its software, which is the same in its image and in .venv."""
    try:
        return f"{code.digest(module, without)}-{code.software(code.image(module))}"
    except UserError as error:
        raise SystemExit(f"radtune: {error}")


def digest(module, without=""):
    """The digests of a stage, taken only where a job of its rule is planned."""
    return lambda wildcards: stage(module, without)


def digest_of(value):
    return hashlib.sha256(str(value).encode()).hexdigest()[:12]


def short(recipe):
    """A name for all that an image's enhancement follows from."""
    return digest_of(f"{recipe} {stage('radtune.images.enhance')}")


def image_recipe(name, **others):
    """The fields of an images recipe; a clip limit of 0 stands for no CLAHE."""
    recipe = CONFIG["images"][name] | others
    return recipe | (recipe.pop("clahe") or {"clip_limit": 0})


CLUSTER = 300  # MiB: a cluster's job holds up to two Snakemakes beside the command, of 100 MiB each and the executor


def memory(base, per_mb=0, of=None):
    """A rule's mem_mb: `base` MiB, and `per_mb` for each MB of its input (or of the folder that its input `of` names);
    twice as much on each retry. Figures are a quarter or more above the peaks that bench/memory.py measures.
    """

    def fixed(wildcards, attempt):
        return (CLUSTER + base) * 2 ** (attempt - 1)

    def by_size(wildcards, input, attempt):
        size = sum(file.stat().st_size for file in Path(input[of]).iterdir()) / 2**20 if of else input.size_mb
        return int((CLUSTER + base + per_mb * size) * 2 ** (attempt - 1))

    # asking for the sizes of thousands of shards takes a seventh of the planning
    return by_size if per_mb else fixed


# Of the machine's memory, in GPU jobs. The tiny model took 2.6 GB to train on a CPU, loaders included, and 2.4 GB to
# learn to see from 3600 practice images. Not measured are CUDA's libraries and a large model's weights, which pass
# through once to a GPU and stay, in twice their width, without one.
CUDA = 4000 if CONFIG["limits"]["gpu_memory_gib"] else 0
MODEL_MEMORY = memory(2800 + CUDA, per_mb=1 if CUDA else 2, of="model")
CHECK_MEMORY = MODEL_MEMORY if CUDA else memory(1400)  # 1.1 GB for 27,000 samples; on a GPU a real step follows
SEE_MEMORY = memory(1000 + CUDA, per_mb=35, of="practice")


def gpu_job(hours, mem_mb):
    """Resources of a rule that needs a GPU; `limit` is for its command, and stands here since it makes nothing stale.

    The Kubernetes executor wants the manufacturer, and writes limits, which GPUs need there, where scale is 0. `hours`
    are up to twice what arithmetic says for 8B on a 24 GB card and the 175,000 rows of MedTrinity: 80 to train 157,000
    samples of 400 tokens three times, with 6 operations a parameter and token at 35e12 a second; 5 to predict 8,750
    samples in batches of 16, 768 tokens of 40 ms each. A retry gets twice as many, and goes on where the job was stopped:
    training from its last checkpoint, prediction from its last batch.
    """
    gib = CONFIG["limits"]["gpu_memory_gib"]
    return {
        "gpu": 1,
        "gpu_manufacturer": "nvidia",
        "scale": 0,
        "limit": f"--gpu-memory-gib={gib}" if gib else "",
        "mem_mb": mem_mb,
        "runtime": lambda wildcards, attempt: 60 * hours * 2 ** (attempt - 1),
    }


MEDIA = f"{RESULTS}/images"
EXPERIMENTS = CONFIG["experiments"]
TRAINED = [name for name, value in EXPERIMENTS.items() if value["training"] is not None]
DATASETS = {value[of]: value for of in ("plain", "dataset") for value in EXPERIMENTS.values()}
CLEANED = {value["cleaned"]: value["cleaning"] for value in EXPERIMENTS.values() if value["cleaned"]}
CLEANED_FILES = [f"{RESULTS}/data/cleaned/{name}.json" for name in CLEANED]
WITH_CASES = {value["dataset"]: value for value in EXPERIMENTS.values() if value["encoder"]}
ENCODERS = {value["encoder"]: value for value in WITH_CASES.values()}
FETCHED = {name: value["fetched"] for name, value in ENCODERS.items() if value["fetched"]}
MODELS = {value["model_name"]: value for value in reversed(EXPERIMENTS.values())}  # the first that uses it
RECIPES = {value["images"]: image_recipe(value["images"]) for value in EXPERIMENTS.values()}
# Where scan_shard leaves the enhanced images for enhance_shard: a folder for each recipe, named after all they follow from
AHEAD = {name: f"{MEDIA}/.ahead/{short(recipe)}" for name, recipe in RECIPES.items()}
SHAREGPT = collect("<results>/sharegpt/{dataset}/dataset_info.json", dataset=DATASETS)
ADAPTERS = collect("<results>/train/{experiment}/adapter", experiment=TRAINED)
BY_VLLM = [name for name, value in EXPERIMENTS.items() if value["generation"]["backend"] == "vllm"]
CHUNKED = [name for name, value in EXPERIMENTS.items() if value["generation"]["chunks"] > 1]
READ = CONFIG["read"]
SCORED = [f"{name}/{split}" for name, value in EXPERIMENTS.items() for split in value["generation"]["splits"]]


# The tiny model's tokenizer is made from both, but from so many wordings of a tag alone: a further one makes no other model.
PROMPTS, PRACTISED = ["config/prompts/en.yaml", "config/prompts/zh.yaml"], 2


wildcard_constraints:
    shard="[A-Za-z0-9._-]+",
    recipe="[a-z][a-z0-9_]*",
    cleaned="(drop|rewrite)-[0-9a-f]+",
    encoder="[A-Za-z0-9._-]+",
    experiment="[a-z][a-z0-9_]*",
    split=r"(train|validation|test)(\.reworded)?",
    chunk=r"|\.\d+-of-\d+",
    tiny="tiny-[0-9a-f]+",
    hub="(?!tiny-)[A-Za-z0-9._-]+",


PHANTOMS = f"{RESULTS}/data/phantoms"
LOCAL = {"local": CONFIG["dataset"]["path"], "phantom": PHANTOMS}.get(CONFIG["dataset"]["source"])
# A local shard is linked by the shell alone, since starting Python for it takes ten times as long; by a relative link where
# the config's path is relative, so that a tree can be moved with its data and results.
RELATIVE = "" if os.path.isabs(LOCAL or "") else "r"
FETCH_SHARD = (
    f'ln -sfn{RELATIVE} "$(realpath {{params.origin:q}})" {{output}} 2> {{log}}'
    if LOCAL
    else "radtune fetch-shard {params.flags} --origin {params.origin:q} --out {output} 2> {log}"
)


def source_files():
    """What the listing is made from: a new file in a local folder makes it stale; a hub is asked once.

    What object storage holds makes it stale as a parameter, see place().
    """
    if CONFIG["dataset"]["source"] == "local":
        return sorted(str(path) for path in Path(LOCAL).rglob("*.parquet"))
    return [LOCAL] if LOCAL else []


def outside_folders():
    """Where the files really lie that a container would not see, as it has the working directory and /tmp alone."""
    paths = [CONFIG["evaluation"]["embedding"], *(value["model"]["path"] for value in EXPERIMENTS.values())]
    paths += [value["retrieval"]["encoder"] for value in ENCODERS.values() if value["retrieval"]["encoder"] != "model"]
    models = [path for path in paths if path]
    files = [*source_files(), *(str(file) for model in models for file in Path(model).glob("*"))]
    folders = {
        LOCAL,
        RESULTS,
        *models,
        READ and os.path.realpath(READ["path"]),
        *(os.path.dirname(os.path.realpath(file)) for file in files),
    } - {None}
    return sorted(os.path.abspath(folder) for folder in folders if os.path.isdir(folder))


if CONTAINED:
    os.makedirs(RESULTS, exist_ok=True)
    os.environ |= {"APPTAINER_BIND": ",".join([*filter(None, [os.getenv("APPTAINER_BIND")]), *outside_folders()])}


def flags(values):
    """Command-line flags from {name: value}; mappings become JSON."""
    text = {key: json.dumps(value) if isinstance(value, dict) else str(value) for key, value in values.items()}
    return shlex.join(f"--{key.replace('_', '-')}={value}" for key, value in text.items())


@cache
def held(kind, url):
    """A digest of what a folder in object storage holds now: one listing, no download."""
    try:
        return list_files("s3", kind, url, "")[1]
    except UserError as error:
        raise SystemExit(f"radtune: {error}")


def place(kind, section):
    given = {key: section[key] for key in ("source", "repo", "revision")}
    # of the jobs that plan again on another machine only these need credentials
    asks = workflow.is_main_process or {"list_shards", "fetch_model"} & set(workflow.dag_settings.allowed_rules)
    return given | ({"revision": held(kind, section["repo"])} if section["source"] == "s3" and asks else {})


def list_flags(wildcards):
    return flags({"source": "local", "path": LOCAL} if LOCAL else place("dataset", CONFIG["dataset"]))


def model_flags(wildcards):
    if wildcards.hub in FETCHED:
        return flags(FETCHED[wildcards.hub] | {"kind": "encoder"})
    return flags(place("model", MODELS[wildcards.hub]["model"]))


def fetch_flags(wildcards):
    found = listing()
    shard = found["shards"][wildcards.shard]
    stated = {key: shard[key] for key in ("size", "sha256") if shard[key] is not None}
    # a shard's own revision, where it has one, so that another shard's makes nothing of it stale
    return flags({key: (found | shard)[key] for key in ("source", "repo", "revision")} | stated)


def split_flags():
    missing_boxes, share = CONFIG["dataset"]["missing_boxes"], CONFIG["limits"]["quarantine_share"]
    return flags(CONFIG["split"] | {"missing_boxes": missing_boxes, "quarantine_share": share})


def preview_flags(wildcards):
    return flags(
        data_flags()
        | ({"cleaned": cleaned_file(wildcards)} if DATASETS[wildcards.dataset]["cleaned"] else {})
        | {"shards": f"{RESULTS}/data/shards", "media_dir": MEDIA, "column": CONFIG["dataset"]["columns"]["image"]}
        | {"sharegpt": f"{RESULTS}/sharegpt/{wildcards.dataset}", "box": DATASETS[wildcards.dataset]["answers"]["box"]}
    )


def data_flags():
    return {key: f"{RESULTS}/data/{name}" for key, name in DATA_FILES.items()}


def shown(path, caption, category, *labels):
    """A result that `snakemake --report` shows with workflow/report/{caption}.rst, told from others by these wildcards."""
    named = {name: f"{{{name}}}" for name in labels}
    return report(path, caption=f"../workflow/report/{caption}.rst", category=category, labels=named or None)


def report_flags():
    """Benchmarks are a folder, since a job that did not run leaves none, and a new one makes nothing stale."""
    places = {"config": "config.yaml", "differences": "evaluate/differences.json", "manifest": "data/manifest.json"}
    places |= {"benchmarks": "benchmarks", "models": "model", "wording": "data/wording.json"}
    text = flags(
        data_flags()
        | {"run": THIS_RUN}
        | {"media_dir": MEDIA, "title": f"radtune: {Path(RESULTS).name}", "locks": "envs"}
        | {key: f"{RESULTS}/{name}" for key, name in places.items()}
    )
    for flag, files in (("trainings", [f"{RESULTS}/train/{name}" for name in TRAINED]), ("cleaned", CLEANED_FILES)):
        text += f" --{flag} {shlex.join(files)}" if files else ""
    return text


def card_evaluations(wildcards):
    """Scores of the experiment and, on the same splits, of the untuned base where it was scored."""
    names = (wildcards.experiment, "base")
    return [f"{RESULTS}/evaluate/{of}.json" for of in SCORED if of.split("/")[0] in names]


def card_flags(wildcards):
    data = {key: f"{RESULTS}/data/{DATA_FILES[key]}" for key in ("samples_table", "quarantine", "leakage", "checks")}
    training = f"{RESULTS}/train/{wildcards.experiment}"
    name = EXPERIMENTS[wildcards.experiment]["cleaned"]
    return flags(
        data
        | {"manifest": f"{RESULTS}/data/manifest.json", "experiment": wildcards.experiment, "training": training}
        | ({"cleaned": f"{RESULTS}/data/cleaned/{name}.json"} if name else {})
    )


def recipe_flags(name, column, **others):
    return flags(image_recipe(name, **others) | {"column": column})


def enhance_flags(wildcards):
    return recipe_flags(wildcards.recipe, CONFIG["dataset"]["columns"]["image"])


def sharegpt_flags(wildcards, input):
    made_with = DATASETS[wildcards.dataset]
    cleaned = {"cleaned": input.cleaned} if made_with["cleaned"] else {}
    given = {"media": made_with["images"], "constraint": made_with["prompts"]["constraint"]} | made_with["answers"]
    return f"{reword_flags(wildcards)} {flags(given | cleaned)}"


def cleaned_file(wildcards):
    """The cleaned texts of a dataset, where its texts are not kept as they are."""
    name = DATASETS[wildcards.dataset]["cleaned"]
    return f"{RESULTS}/data/cleaned/{name}.parquet" if name else []


def cleaning_prompt(wildcards):
    found = CLEANED[wildcards.cleaned]
    return found["rewrite"]["prompt"] if found["action"] == "rewrite" else []


def cleaning_flags(wildcards, input):
    """The inputs, and what decides the texts; the rest, by cleaning_server, makes nothing stale."""
    found = CLEANED[wildcards.cleaned]
    rewrite = {key: found["rewrite"][key] for key in ("base_url", "model", "similarity")}
    chosen = {"action": found["action"], "kinds": sorted(found["kinds"])}
    how = flags({"cleaning": chosen | (rewrite if found["action"] == "rewrite" else {})})
    return f"{how} {input_flags(wildcards, input)}"


def cleaning_server(wildcards):
    found = CLEANED[wildcards.cleaned]
    how = {key: found["rewrite"][key] for key in ("concurrency", "timeout", "retries", "price")}
    return flags({"server": how}) if found["action"] == "rewrite" else ""


def reword_flags(wildcards):
    found = DATASETS[wildcards.dataset]["prompts"]
    return flags({key: found[key] for key in ("seed", "wordings") if found[key] is not None})


def prompts_file(wildcards):
    return DATASETS[wildcards.dataset]["prompts"]["file"]


def prompts_used(wildcards):
    """A digest of what a dataset takes of its prompts' file, so that another word of the file makes nothing stale."""
    found = DATASETS[wildcards.dataset]["prompts"]
    return digest_of(read(taught, Path(found["file"]), found["wordings"], found["constraint"]))


def unseen_wordings(wildcards):
    return digest_of(read(read_prompts, Path(prompts_file(wildcards))).unseen)


def cases_wording(wildcards):
    return digest_of(read(read_wording, Path(prompts_file(wildcards))))


def practised_wordings(wildcards):
    return digest_of([read(taught, Path(path), PRACTISED, False) for path in PROMPTS])


def read(function, *arguments):
    """What the function makes of a person's file; one sentence where it cannot be read."""
    try:
        return function(*arguments)
    except UserError as error:
        raise SystemExit(f"radtune: {error}")


def made_ahead(wildcards):
    return f"{AHEAD[wildcards.recipe]}/{wildcards.shard}"


def practice_flags(wildcards):
    """The recipe of the first experiment that uses this tiny model, but CLAHE, which no model is pretrained on."""
    return recipe_flags(MODELS[wildcards.tiny]["images"], "image", clahe=None)


def see_flags(wildcards):
    tiny = MODELS[wildcards.tiny]["model"]["tiny"]
    pixels = tiny["training"]["image_max_pixels"]
    return flags({"image_pixels": pixels, "steps": tiny["see_steps"], "seed": tiny["seed"]})


def tiny_flags(wildcards):
    return flags(
        {
            "settings": MODELS[wildcards.tiny]["model"]["tiny"]["training"],
            "dataset": "practice",
        }
    )


PIXELS = ("image_max_pixels", "image_min_pixels")


def validates():
    """Whether there is a validation split to take the loss on."""
    return CONFIG["split"]["by"] == "official" or CONFIG["split"]["fractions"]["validation"] > 0


def training_settings(wildcards):
    unseen = {"eval_strategy": "no", "load_best_model_at_end": False, "early_stopping_steps": None}
    return EXPERIMENTS[wildcards.experiment]["training"] | ({} if validates() else unseen)


def train_flags(wildcards):
    found = EXPERIMENTS[wildcards.experiment]
    adapter, out = init_adapter(wildcards), f"{RESULTS}/train/{wildcards.experiment}"
    made_by = {"recipe": CONFIG["images"][found["images"]], "code": code.digest("radtune.images.enhance")}
    return flags(
        {"settings": training_settings(wildcards), "dataset": "train", "media_dir": MEDIA, "images": made_by}
        | {"dataset_dir": f"{RESULTS}/sharegpt/{found['dataset']}", "out": out, "weights": f"{out}/adapter"}
        | ({"eval_dataset": "validation"} if validates() else {})
        | ({"adapter": adapter} if adapter else {})
    )


def training_cards():
    """The GPUs that the profile gives to each training."""
    return workflow.get_rule("train_adapter").resources["gpu"].constrain(workflow.global_resources.get("gpu")).value


def training_threads(wildcards):
    """A core for each process that tokenises, which end before those start that train and load batches; the small
    trainings of a machine without a GPU have one each.
    """
    found = EXPERIMENTS[wildcards.experiment]["training"]
    workers = max(found["preprocessing_num_workers"], training_cards() * (1 + found["dataloader_num_workers"]))
    return workers if CONFIG["limits"]["gpu_memory_gib"] else 1


def preflight_flags(wildcards):
    """What the check shares with training, and the pixel limits of prediction."""
    pixels = {key: EXPERIMENTS[wildcards.experiment]["pixels"][key] for key in PIXELS}
    given = {"settings": training_settings(wildcards), "prediction": pixels, "media_dir": MEDIA}
    given |= {"dataset": "train", "dataset_dir": sharegpt_file("")(wildcards).rstrip("/")}
    return flags(given | ({"eval_dataset": "validation"} if validates() else {}))


def preflight_aside(wildcards):
    """What the check says beside that: none of it is training's, which must not start again when it changes."""
    found = EXPERIMENTS[wildcards.experiment]["generation"]
    aside = {"max_new_tokens": found["max_new_tokens"], "training_gpus": training_cards()}
    rates = flags(aside | {key: value for key, value in CONFIG["budget"].items() if value})
    return f"--prompts {shlex.join(sharegpt_file(f'{split}.json')(wildcards) for split in found['splits'])} {rates}"


def valid_flags(found):
    return {"valid_records": True, "box": found["answers"]["box"]} if found["generation"]["valid_records"] else {}


def predict_flags(wildcards):
    """Generation settings, and the pixel limits of training, so that both see the same image tokens."""
    found = EXPERIMENTS[wildcards.experiment]
    by_vllm = wildcards.experiment in BY_VLLM
    adapter = [] if by_vllm else own_adapter(wildcards)
    return flags(
        {key: found["generation"][key] for key in ("max_new_tokens", "batch_size", *([] if by_vllm else ["cache"]))}
        | {key: found["pixels"][key] for key in PIXELS}
        | {"media_dir": MEDIA}
        | valid_flags(found)
        | ({"some": found["generation"]["reworded"]} if wildcards.split.endswith(".reworded") else {})
        | ({"chunk": wildcards.chunk[1:]} if wildcards.chunk else {})
        | ({"adapter": adapter} if adapter else {})
    )


def reading_page(wildcards):
    if not READ:
        raise UserError("config: read.path is missing; name the images to read: read: {path: FOLDER}.")
    return f"{RESULTS}/read/{READ['experiment']}/index.html"


def prepare_reading_flags(wildcards):
    tasks = shlex.join(["--tasks", *READ["tasks"]]) if READ["tasks"] else ""
    recipe = image_recipe(EXPERIMENTS[wildcards.experiment]["images"])
    return f"{flags(recipe | {'window': READ['window']})} {tasks}".strip()


def reading_scores(wildcards):
    """Those on the test split, where the experiment answers it."""
    of = f"{wildcards.experiment}/test"
    return f"{RESULTS}/evaluate/{of}.json" if of in SCORED else []


def reading_flags(wildcards, input):
    """Those of prediction, by transformers, for new images."""
    asked = {"sharegpt": f"{input.similar or input.prepared}/questions.json", "media_dir": input.prepared}
    found, adapter = EXPERIMENTS[wildcards.experiment], own_adapter(wildcards)
    return flags(
        {key: found["generation"][key] for key in ("max_new_tokens", "batch_size", "cache")}
        | asked
        | {key: found["pixels"][key] for key in PIXELS}
        | valid_flags(found)
        | ({"chunk": wildcards.chunk[1:]} if wildcards.chunk else {})
        | ({"adapter": adapter} if adapter else {})
    )


def reading_train(wildcards):
    """The samples that training knows, without cases in their questions."""
    return f"{RESULTS}/sharegpt/{EXPERIMENTS[wildcards.experiment]['plain']}/train.json"


def similar_by(wildcards):
    """Whose index finds cases like the new images: the experiment itself, else another with the same pictures."""
    found = EXPERIMENTS[wildcards.experiment]
    others = [value for value in EXPERIMENTS.values() if value["images"] == found["images"]]
    return next((value for value in (found, *others) if value["encoder"]), None)


def similar_folder(wildcards):
    return f"{RESULTS}/read/{wildcards.experiment}/similar" if similar_by(wildcards) else []


def similar_index(wildcards):
    by = similar_by(wildcards)
    return f"{RESULTS}/retrieve/{by['encoder']}/{by['images']}/index"


def similar_encoder(wildcards):
    """A model's folder, or another encoder's."""
    by = similar_by(wildcards)
    model = by["model"]["path"] or f"{RESULTS}/model/{by['model_name']}"
    return model if by["retrieval"]["encoder"] == "model" else by["retrieval"]["encoder"]


def similar_flags(wildcards):
    """Their answers are asked with only where the experiment is asked so."""
    by = similar_by(wildcards)
    own = by is EXPERIMENTS[wildcards.experiment]
    asked = {key: by["retrieval"][key] for key in ("k", "characters")} | {"prompts": by["prompts"]["file"]}
    return flags(by["pixels"] | (asked if own else {}))


def write_reading_flags(wildcards, input):
    return f"{input_flags(wildcards, input)} {flags({'media_dir': MEDIA})}"


def reading_chunks(wildcards):
    """The answers to new images, in order, in as many chunks as the experiment's splits."""
    count = EXPERIMENTS[wildcards.experiment]["generation"]["chunks"]
    chunks = [f".{n}-of-{count}" for n in range(1, count + 1)] if count > 1 else [""]
    return [f"{RESULTS}/read/{wildcards.experiment}/predictions{chunk}.jsonl" for chunk in chunks]


def new_images():
    """A digest of the new images' names, sizes and times, so that one more is read."""
    path = Path(READ["path"])
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    known = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]
    return hashlib.sha256(repr(known).encode()).hexdigest()[:12]


def blank_flags(wildcards):
    """Those of prediction, by transformers and as a whole, for a sample of the split."""
    found, adapter = EXPERIMENTS[wildcards.experiment], own_adapter(wildcards)
    return flags(
        {key: found["generation"][key] for key in ("max_new_tokens", "batch_size", "cache")}
        | {"some": found["generation"]["blank"], "blank": True}
        | valid_flags(found)
        | {key: found["training"][key] for key in PIXELS}
        | {"media_dir": MEDIA, "adapter": adapter}
    )


def blank_file(wildcards):
    """What a tuned model says without looking, where that is asked for."""
    asked = wildcards.experiment in TRAINED and EXPERIMENTS[wildcards.experiment]["generation"]["blank"]
    return f"{RESULTS}/predict/{wildcards.experiment}/{wildcards.split}.blank.jsonl" if asked else []


def reworded_file(wildcards):
    """Answers of the experiment to unseen wordings, where those are asked for and there."""
    found = EXPERIMENTS[wildcards.experiment]
    asked = found["generation"]["reworded"] and read(read_prompts, Path(found["prompts"]["file"])).unseen
    return f"{RESULTS}/predict/{wildcards.experiment}/{wildcards.split}.reworded.jsonl" if asked else []


def evaluate_flags(wildcards, input):
    box = flags({"box": EXPERIMENTS[wildcards.experiment]["answers"]["box"]})
    return f"{input_flags(wildcards, input)} {box} --geometry {input.geometry}"


def input_flags(wildcards, input):
    """A flag for each input of one file that is there; those of several are the rule's to write."""
    return flags({key: value for key, value in input.items() if isinstance(value, str)})


def embedding_file(wildcards):
    found = f"{RESULTS}/evaluate/{wildcards.experiment}/{wildcards.split}.embedding.parquet"
    return found if CONFIG["evaluation"]["embedding"] else []


def chunk_files(wildcards):
    """The chunks of a split's predictions, in order."""
    count = EXPERIMENTS[wildcards.experiment]["generation"]["chunks"]
    start = f"{RESULTS}/predict/{wildcards.experiment}/{wildcards.split}"
    return [f"{start}.{n}-of-{count}.jsonl" for n in range(1, count + 1)]


def shard_file(wildcards):
    """The file that a local shard links to."""
    origin = listing()["shards"][wildcards.shard]["origin"]
    return {"local": origin, "phantom": PHANTOMS}.get(CONFIG["dataset"]["source"], [])


def listing():
    """shards.json, with the shards by name; how many there are is known once the source was asked."""
    path = Path(checkpoints.list_shards.get().output[0])
    return read_listing(path, path.stat().st_mtime_ns)


@cache
def read_listing(path, changed):
    found = json.loads(path.read_text())
    return found | {"shards": {shard["name"]: shard for shard in found["shards"]}}


def shards(wildcards):
    return list(listing()["shards"])


def shard_files(wildcards):
    """What becomes of every shard, up to the images that training reads."""
    names = shards(wildcards)
    return [
        *collect("<results>/data/{kind}/{shard}.parquet", kind=["index", "scan"], shard=names),
        *collect("<results>/images/{recipe}/{shard}", recipe=RECIPES, shard=names),
    ]


def shard_entry(key):
    return lambda wildcards: listing()["shards"][wildcards.shard][key]


def recipe_files(pattern):
    """Files of the images recipe that a dataset or an experiment uses, one a shard."""

    def files(wildcards):
        made_with = DATASETS[wildcards.dataset] if hasattr(wildcards, "dataset") else EXPERIMENTS[wildcards.experiment]
        return collect(pattern, recipe=made_with["images"], shard=shards(wildcards))

    return files


def sharegpt_file(name):
    """A file of the experiment's dataset; `name` may hold wildcards."""

    def file(wildcards):
        folder = EXPERIMENTS[wildcards.experiment]["dataset"]
        return f"{RESULTS}/sharegpt/{folder}/{name.format(**dict(wildcards))}"

    return file


def neighbours_file(wildcards):
    dataset = EXPERIMENTS[wildcards.experiment]["plain"]  # whose images are the same
    return f"{RESULTS}/evaluate/neighbours/{dataset}.{wildcards.split}.parquet"


def model_folder(wildcards):
    """The model that an experiment starts from: the local folder as it is, else what is fetched or built."""
    found = EXPERIMENTS[wildcards.experiment]
    return found["model"]["path"] or f"{RESULTS}/model/{found['model_name']}"


def init_adapter(wildcards):
    other = EXPERIMENTS[wildcards.experiment]["init_adapter"]
    return f"{RESULTS}/train/{other}/adapter" if other else []


def own_adapter(wildcards):
    """The adapter that answers: the experiment's, or another's as it is."""
    name = EXPERIMENTS[wildcards.experiment]["adapter"]
    return f"{RESULTS}/train/{name}/adapter" if name else []


def whole_model(wildcards):
    """What a program loads that knows of no adapters."""
    name = EXPERIMENTS[wildcards.experiment]["adapter"]
    return f"{RESULTS}/train/{name}/merged" if name else model_folder(wildcards)


def encoder_folder(wildcards):
    """Where the encoder's weights lie: the experiment's own model, or a folder, which may be fetched."""
    found = ENCODERS[wildcards.encoder]
    folder, model = found["retrieval"]["encoder"], found["model"]["path"] or f"{RESULTS}/model/{found['model_name']}"
    return model if folder == "model" else folder


def embed_flags(wildcards):
    return flags(ENCODERS[wildcards.encoder]["pixels"] | {"media_dir": MEDIA})


def plain_file(wildcards):
    return f"{RESULTS}/sharegpt/{WITH_CASES[wildcards.dataset]['plain']}/dataset_info.json"


def vector_files(wildcards):
    start = f"{RESULTS}/retrieve/{wildcards.encoder}/{wildcards.recipe}/vectors"
    return [f"{start}/{shard}.parquet" for shard in shards(wildcards)]


def cases_files(wildcards):
    """The similar cases of each split whose questions hold some."""
    found = WITH_CASES[wildcards.dataset]
    splits = ["test"] if found["retrieval"]["used_in"] == "prediction" else ["train", "validation", "test"]
    return collect(f"<results>/retrieve/{found['encoder']}/{found['images']}/cases/{{split}}.parquet", split=splits)


def cases_flags(wildcards):
    return flags({key: WITH_CASES[wildcards.dataset]["retrieval"][key] for key in ("k", "characters")})
