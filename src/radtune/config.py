"""Validate a config and fill it in: defaults from the schema, each experiment with everything that holds for it.

Every problem is one sentence that names the key's path: an unknown key with the nearest valid one, a missing folder, an
init_adapter that names no experiment, experiments that start from each other in a circle.
"""

from __future__ import annotations

import copy
import difflib
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

from radtune.files import UserError

SCHEMA = Path(__file__).parents[2] / "workflow" / "schemas" / "config.schema.yaml"
PROMPTS = Path("config/prompts")  # of the working directory, so that a run's files name no machine's paths
_OVERRIDES = ("prompts", "answers", "cleaning", "model", "training", "generation", "retrieval")
_PIXELS = ("image_max_pixels", "image_min_pixels")
REWRITE = PROMPTS / "rewrite.yaml"

Config = dict[str, Any]


def resolve(raw: Config) -> Config:
    """The complete config. Each of its `experiments` holds images (a recipe's name), prompts, answers, cleaning, model,
    training (null for an untuned one), generation, retrieval, init_adapter (or null), the names of its dataset and
    model folders and of its cleaned texts (or null), and what _add_retrieval() adds.
    """
    schema = yaml.load(SCHEMA.read_text(encoding="utf-8"), yaml.CSafeLoader)  # 14 ms, and 74 in pure Python
    _check(raw, schema)
    config: Config = _fill(copy.deepcopy(raw), schema, schema)
    total = sum(config["split"]["fractions"].values())
    if abs(total - 1) > 1e-9:
        raise UserError(f"config: split.fractions sum to {total:g}, not 1.")
    _folder(config["dataset"], "dataset")
    encoder = config["evaluation"]["embedding"]
    if encoder and not Path(encoder).is_dir():
        raise UserError(f"config: evaluation.embedding {encoder} is no folder.")
    given = {name: value or {} for name, value in config["experiments"].items() if value is not False}
    given = {"base": {}} | given
    if given["base"].get("training") or "init_adapter" in given["base"]:
        raise UserError("config: experiments.base is the untuned model; give the trained one another name.")
    given["base"] = given["base"] | {"training": None}
    config["experiments"] = {name: _experiment(name, value, config, schema) for name, value in given.items()}
    _check_adapters(config["experiments"])
    for name in config["experiments"]:
        _add_retrieval(name, config)
    if config["read"]:
        _check_reading(config["read"], config["experiments"])
    return config


def _check(raw: Config, schema: Config) -> None:
    error = best_match(Draft202012Validator(schema).iter_errors(raw))
    while error and error.context:  # anyOf: the branch that came nearest says more
        error = best_match(error.context) or error
    if error:
        raise UserError(f"config: {_sentence(error)}")


def _sentence(error: ValidationError) -> str:
    path = ".".join(str(part) for part in error.absolute_path)
    schema: Any = error.schema
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        key = next(key for key in dict(error.instance) if key not in schema["properties"])
        near = difflib.get_close_matches(str(key), list(schema["properties"]), n=1, cutoff=0)
        return f"{path + '.' if path else ''}{key} is no known key; did you mean {near[0]}?"
    if error.validator == "enum":
        return f"{path} is {error.instance!r}, not one of {', '.join(schema['enum'])}."
    return f"{path or 'the file'}: {error.message}."


def _fill(value: Any, schema: Config, root: Config) -> Any:
    """Add the defaults of every key that is not given, all the way down."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rsplit("/", 1)[1]] | {k: v for k, v in schema.items() if k != "$ref"}
    if isinstance(value, dict):
        for key, part in schema.get("properties", {}).items():
            if key not in value and "default" in part:
                value[key] = copy.deepcopy(part["default"])
            elif isinstance(part.get("default"), dict) and not {"properties", "additionalProperties"} & set(part):
                value[key] = _merge(part["default"], value[key])  # an open mapping: what is given overrides one by one
            if key in value and not (schema is root and key == "experiments"):
                value[key] = _fill(value[key], part, root)
        extra = schema.get("additionalProperties")
        if isinstance(extra, dict):
            value = {k: _fill(v, extra, root) if k not in schema.get("properties", {}) else v for k, v in value.items()}
    return value


def _merge(base: Config, over: Config) -> Config:
    merged = copy.deepcopy(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else copy.deepcopy(value)
    return merged


def _check_reading(read: Config, experiments: Config) -> None:
    """Check what the target `read` is to read, and name the experiment that does."""
    if not Path(read["path"]).exists():
        raise UserError(f"config: read.path {read['path']} is no file and no folder.")
    tuned = (name for name, value in experiments.items() if value["training"] is not None)
    read["experiment"] = read["experiment"] or next(tuned, "base")
    if read["experiment"] not in experiments:
        near = difflib.get_close_matches(read["experiment"], list(experiments), n=1, cutoff=0)
        raise UserError(f"config: read.experiment {read['experiment']} is no experiment; did you mean {near[0]}?")


def _folder(section: Config, where: str) -> None:
    """Check the folder of source local. One in object storage is handled like a repository, of source s3."""
    if section["source"] != "local":
        return
    path = section["path"]
    if path and path.startswith("s3:"):
        if not re.fullmatch(r"s3://[A-Za-z0-9._-]+(/[^/?#@:\s]+)*/?", path):  # not shown: it may hold a credential
            raise UserError(
                f"config: {where}.path is not of the form s3://BUCKET/PREFIX; who may read it, AWS_ACCESS_KEY_ID and"
                " AWS_SECRET_ACCESS_KEY in the environment say."
            )
        section |= {"source": "s3", "path": None, "repo": path.rstrip("/"), "revision": ""}
        return
    if path is None:
        raise UserError(f"config: {where}.path is missing; {where}.source local needs a folder.")
    if not Path(path).is_dir():
        raise UserError(f"config: {where}.path {path} is no folder.")


def _experiment(name: str, given: Config, config: Config, schema: Config) -> Config:
    where = f"experiments.{name}"
    full: Config = {"images": given.get("images", next(iter(config["images"])))}
    if full["images"] not in config["images"]:
        near = difflib.get_close_matches(full["images"], list(config["images"]), n=1, cutoff=0)
        raise UserError(f"config: {where}.images {full['images']} is no recipe under images; did you mean {near[0]}?")
    for key in _OVERRIDES:
        over = given.get(key, {})
        full[key] = None if over is None else _merge(config[key], over)
    if full["generation"]["valid_records"]:
        if full["answers"]["record"] != "json":
            raise UserError(f"config: {where}.generation.valid_records needs answers.record json.")
        if full["generation"]["backend"] == "vllm":
            raise UserError(f"config: {where}.generation.valid_records needs generation.backend transformers.")
    full["init_adapter"] = given.get("init_adapter")
    _folder(full["model"], f"{where}.model" if "model" in given else "model")
    prompts = full["prompts"]
    prompts["file"] = prompts["file"] or str(PROMPTS / f"{prompts['language']}.yaml")
    if not Path(prompts["file"]).is_file():
        raise UserError(f"config: {where}.prompts.file {prompts['file']} is no file.")
    full["cleaned"] = _cleaned(full["cleaning"], f"{where}.cleaning" if "cleaning" in given else "cleaning")
    same = [full["images"], prompts, full["answers"], config["split"]["by"]]
    same += [full["cleaned"]] if full["cleaned"] else []
    full["dataset"] = f"{full['images']}-{prompts['language']}-{_short(same)}"
    name = re.sub(r"[^A-Za-z0-9._-]", "-", Path(full["model"]["path"] or full["model"]["repo"]).name)
    full["model_name"] = f"{name}-{_short(full['model'])}"
    if full["model"]["source"] == "tiny":
        full["model_name"] = f"tiny-{_short([full['model'], config['images'][full['images']]['size']])}"
    return full


def _cleaned(cleaning: Config, where: str) -> str | None:
    """A name for all that the cleaned texts follow from, None where they stay; neither speed nor price is of it."""
    how, rewrite = [cleaning["action"], sorted(cleaning["kinds"])], cleaning["rewrite"]
    if cleaning["action"] == "keep":
        return None
    if cleaning["action"] == "rewrite":
        rewrite["prompt"] = rewrite["prompt"] or str(REWRITE)
        for key in ("base_url", "model"):
            if not rewrite[key]:
                raise UserError(f"config: {where}.rewrite.{key} is missing; {where}.action rewrite needs it.")
        if not re.fullmatch(r"https?://[^@?#\s]+", rewrite["base_url"]):  # not shown: it may hold a credential
            raise UserError(
                f"config: {where}.rewrite.base_url is not of the form http://HOST/v1; its key, OPENAI_API_KEY in the"
                " environment says."
            )
        if not Path(rewrite["prompt"]).is_file():
            raise UserError(f"config: {where}.rewrite.prompt {rewrite['prompt']} is no file.")
        how += [rewrite[key] for key in ("base_url", "model", "prompt", "similarity")]
    return f"{cleaning['action']}-{_short(how)}"


def _add_retrieval(name: str, config: Config) -> None:
    """Add the experiment whose `adapter` answers (or null), the limits of `pixels` that it learned with, the `plain`
    dataset, without cases, the `encoder` that finds those of its own dataset (or null), and where that is `fetched`
    from, source, repo and revision on a hub (or null). retrieval.encoder is then the folder where it will lie.
    """
    full = config["experiments"][name]
    full["adapter"] = full["init_adapter"] if full["training"] is None else name
    learned = config["experiments"][full["adapter"]]["training"] if full["adapter"] else config["training"]
    full["pixels"] = {key: learned[key] for key in _PIXELS}
    full["plain"], full["encoder"], full["fetched"], given = full["dataset"], None, None, full["retrieval"]
    if given["used_in"] == "nothing":
        return
    encoder, revision = given["encoder"], given["encoder_revision"]
    where = f"config: retrieval.encoder {encoder} of experiments.{name}"
    named = re.sub(r"[^A-Za-z0-9._-]", "-", Path(encoder).name)
    if encoder == "model":
        full["encoder"] = f"{full['model_name']}-{_short(full['pixels'])}"
    elif revision:
        if not re.fullmatch(r"\w[\w.-]*/[\w.-]+", encoder):
            raise UserError(f"{where} is no OWNER/NAME of a hub; without encoder_revision it is a folder.")
        full["fetched"] = {"source": given["encoder_source"], "repo": encoder, "revision": revision}
        full["encoder"] = f"{named}-{_short(full['fetched'])}"
    elif Path(encoder).is_dir():
        full["encoder"] = f"{named}-{_short(encoder)}"
    else:
        raise UserError(
            f"{where} is no folder, nor `model`; one of a hub, OWNER/NAME, needs retrieval.encoder_revision."
        )
    full["dataset"] = f"{full['plain']}-cases-{_short([given, full['encoder']])}"
    if full["fetched"]:
        given["encoder"] = f"{config['results']}/model/{full['encoder']}"


def _short(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:6]


def _check_adapters(experiments: Config) -> None:
    for name, experiment in experiments.items():
        path, other = [name], experiment["init_adapter"]
        while other is not None:
            where = f"config: experiments.{path[-1]}.init_adapter {other}"
            if other not in experiments or experiments[other]["training"] is None:
                trained = [key for key, value in experiments.items() if value["training"] is not None]
                near = difflib.get_close_matches(other, trained, n=1, cutoff=0)
                raise UserError(f"{where} is no trained experiment" + (f"; did you mean {near[0]}?" if near else "."))
            if experiments[other]["model_name"] != experiments[path[-1]]["model_name"]:
                raise UserError(f"{where} was trained on another model.")
            for key in ("lora_rank", "lora_alpha", "lora_dropout", "lora_target"):
                mine, theirs = ((experiments[each]["training"] or {}).get(key) for each in (path[-1], other))
                if mine is not None and mine != theirs:
                    at = f"config: experiments.{path[-1]}.training.{key}"
                    raise UserError(f"{at} {mine} has no effect: the adapter of {other} keeps its own, {theirs}.")
            if other in path:
                raise UserError(f"{where} closes a circle: {' -> '.join([*path, other])}.")
            path.append(other)
            other = experiments[other]["init_adapter"]
