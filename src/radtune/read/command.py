"""Read new images with a finished run: prepare, predict, write, in one command. `radtune read --help`."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

from radtune.files import UserError


def read(
    *paths: Path,
    run: Path | None = None,
    experiment: str | None = None,
    tasks: list[str] | None = None,
    window: str = "header",
    out: Path = Path("reading"),
) -> None:
    """Read images with a finished run: JSON, pictures with boxes, and a page, in folder `out`. For research; not for
    diagnosis.

    Parameters
    ----------
    paths
        JPEG, PNG, TIFF and the like, DICOM files, and folders of them.
    run
        The run's results folder; the newest under results/ that has an adapter.
    experiment
        Any of its experiments, base for the untuned model; the first that was tuned.
    tasks
        caption, details, region, observation, record, box, description; all that the run has.
    window
        How CT is shown: header, brain, subdural, stroke, bone or soft.
    """
    from radtune.predict.generate import predict
    from radtune.read.prepare import prepare
    from radtune.read.run import find
    from radtune.read.write import write_reading

    if not paths:
        raise UserError("name an image, a DICOM file or a folder of them.")
    found = find(run, experiment)
    if out.exists() and not (out / "prepared").is_dir() and any(out.iterdir()):
        raise UserError(f"{out} exists and is no reading; name another folder: --out.")
    print(f"reading with {found.experiment} of {found.folder}", file=sys.stderr)
    prepared, predictions = out / "prepared", out / "predictions.jsonl"
    try:
        unnamed = prepare(*paths, out=prepared, train=found.train, tasks=tasks, window=window, **found.recipe)
    except UserError:
        with suppress(OSError):  # where an earlier reading lies there
            out.rmdir()
        raise
    for name, path in unnamed.items():
        print(f"{name} is {path}", file=sys.stderr)
    questions, similar = prepared / "questions.json", None
    if found.similar:
        from radtune.read.cases import similar_cases

        memory = found.generation["gpu_memory_gib"]
        similar_cases(prepared, train=found.train, out=out / "similar", gpu_memory_gib=memory, **found.similar)
        similar = out / "similar"
        questions = similar / "questions.json"
    predict(found.model, questions, prepared, predictions, adapter=found.adapter, **found.generation)
    write_reading(
        prepared,
        [predictions],
        found.config,
        out,
        experiment=found.experiment,
        evaluation=found.evaluation,
        similar=similar,
        media_dir=found.folder / "images",
    )
    print(f"{out / 'index.html'}, {out / 'reading.json'}")
