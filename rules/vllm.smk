"""Answers of the experiments whose generation.backend is vllm, which needs a newer CUDA and so an image of its own.

In: merged model, sharegpt/{dataset}/{split}.json. Out: as in predict.smk.
"""


container: IMAGES["vllm"]


ruleorder: join_chunks > predict_by_vllm > predict_split


rule predict_by_vllm:
    """Generate an answer for each sample of a split, or of one of its chunks."""
    input:
        model=whole_model,
        sharegpt=sharegpt_file("{split}.json"),
        media=recipe_files("<results>/images/{recipe}/{shard}"),
    output:
        "<results>/predict/{experiment}/{split}{chunk}.jsonl",
    log:
        "<logs>/predict_by_vllm/{experiment}/{split}{chunk}.log",
    benchmark:
        "<benchmarks>/predict_by_vllm/{experiment}/{split}{chunk}.jsonl"
    wildcard_constraints:
        experiment="|".join(BY_VLLM) or "(?!)",  # none
    resources:
        **gpu_job(hours=4, mem_mb=MODEL_MEMORY),
    params:
        code=digest("radtune.predict.vllm"),
        flags=predict_flags,
    shell:
        "radtune predict-vllm --gpus {resources.gpu} {resources.limit} {params.flags}"
        " --model {input.model} --sharegpt {input.sharegpt}"
        " --out {output} > {log} 2>&1"
