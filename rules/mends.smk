"""What Snakemake does otherwise than radtune needs, changed for this run, each with its reason; before all other rules."""

import gc
import sys
from pathlib import Path

import snakemake.dag
import snakemake.io

from radtune.files import remove_at_once

# Snakemake imports pandas, which only the trainer has it for, at each start to look for its tables among the params: a
# fifth of the start
sys.modules.setdefault("pandas", None)
# a plan's many objects stay: to look through them for garbage again and again takes a tenth of planning
gc.set_threshold(200_000)


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
