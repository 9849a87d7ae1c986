"""Answers of every experiment, the untuned base among them, greedy and resumable.

In: model, adapter, sharegpt/{dataset}/{split}.json. Out: predict/{experiment}/{split}.jsonl, one line a sample; of an
experiment in N chunks put together from {split}.1-of-N.jsonl to {split}.N-of-N.jsonl. {split}.blank.jsonl: some of a tuned
model's without the pictures. {split}.reworded.jsonl: some questions of the split in words that training never uses.
"""


container: IMAGES["train"]


ruleorder: join_chunks > predict_split


rule predict_split:
    """Generate an answer for each sample of a split, or of one of its chunks."""
    input:
        model=model_folder,
        adapter=own_adapter,
        sharegpt=sharegpt_file("{split}.json"),
        media=recipe_files("<results>/images/{recipe}/{shard}"),
    output:
        "<results>/predict/{experiment}/{split}{chunk}.jsonl",
    log:
        "<logs>/predict_split/{experiment}/{split}{chunk}.log",
    benchmark:
        "<benchmarks>/predict_split/{experiment}/{split}{chunk}.jsonl"
    resources:
        **gpu_job(hours=8, mem_mb=MODEL_MEMORY),
    params:
        code=digest("radtune.predict.generate"),
        flags=predict_flags,
    shell:
        "radtune predict --gpus {resources.gpu} {resources.limit} {params.flags}"
        " --model {input.model} --sharegpt {input.sharegpt}"
        " --out {output} > {log} 2>&1"


rule predict_blank:
    """Generate answers to some samples of a split with a black picture: what the tuned model says without looking."""
    input:
        model=model_folder,
        adapter=own_adapter,
        sharegpt=sharegpt_file("{split}.json"),
        media=recipe_files("<results>/images/{recipe}/{shard}"),
    output:
        "<results>/predict/{experiment}/{split}.blank.jsonl",
    log:
        "<logs>/predict_blank/{experiment}/{split}.log",
    benchmark:
        "<benchmarks>/predict_blank/{experiment}/{split}.jsonl"
    resources:
        **gpu_job(hours=1, mem_mb=MODEL_MEMORY),
    params:
        code=digest("radtune.predict.generate"),
        flags=blank_flags,
    shell:
        "radtune predict --gpus {resources.gpu} {resources.limit} {params.flags}"
        " --model {input.model} --sharegpt {input.sharegpt}"
        " --out {output} > {log} 2>&1"


rule join_chunks:
    """Put the answers of a split's chunks together."""
    input:
        chunk_files,
    output:
        "<results>/predict/{experiment}/{split}.jsonl",
    log:
        "<logs>/join_chunks/{experiment}/{split}.log",
    benchmark:
        "<benchmarks>/join_chunks/{experiment}/{split}.jsonl"
    wildcard_constraints:
        experiment="|".join(CHUNKED) or "(?!)",  # none
    resources:
        mem_mb=memory(10),
    shell:
        "cat {input} > {output} 2> {log}"
