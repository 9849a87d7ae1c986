"""Answers of every experiment, the untuned base among them, greedy and resumable.

In: model, adapter, sharegpt/{dataset}/{split}.json. Out: predict/{experiment}/{split}.jsonl, one line a sample.
"""


container: IMAGES["train"]


rule predict_split:
    """Generate an answer for each sample of a split."""
    input:
        model=model_folder,
        adapter=own_adapter,
        sharegpt=sharegpt_file("{split}.json"),
        media=recipe_files("<results>/images/{recipe}/{shard}"),
    output:
        "<results>/predict/{experiment}/{split}.jsonl",
    log:
        "<logs>/predict_split/{experiment}/{split}.log",
    benchmark:
        "<benchmarks>/predict_split/{experiment}/{split}.jsonl"
    resources:
        **gpu_job(hours=8, mem_mb=MODEL_MEMORY),
    params:
        code=digest("radtune.predict.generate"),
        flags=predict_flags,
    shell:
        "radtune predict --gpus {resources.gpu} {resources.limit} {params.flags}"
        " --model {input.model} --sharegpt {input.sharegpt}"
        " --out {output} > {log} 2>&1"
