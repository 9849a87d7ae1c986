"""A LoRA adapter per experiment, by LLaMA-Factory; checkpoints live beside the outputs and survive a crash.

In: model, sharegpt/{dataset}/, images/{recipe}/. Out: train/{experiment}/ with adapter/, train.yaml, losses.
"""


container: IMAGES["train"]


rule train_adapter:
    """Render train.yaml, run LLaMA-Factory, collect the adapter and the losses."""
    input:
        model=model_folder,
        adapter=init_adapter,
        sharegpt=sharegpt_file("dataset_info.json"),
        media=recipe_files("<results>/images/{recipe}/{shard}"),
    output:
        adapter=directory("<results>/train/{experiment}/adapter"),
        files=multiext("<results>/train/{experiment}/", "train.yaml", "trainer_log.jsonl", "loss.png", "summary.json"),
    log:
        "<logs>/train_adapter/{experiment}.log",
    benchmark:
        "<benchmarks>/train_adapter/{experiment}.jsonl"
    resources:
        **gpu_job(hours=24, mem_mb=MODEL_MEMORY),
    params:
        code=digest("radtune.train.launch"),
        flags=train_flags,
    shell:
        "radtune train --gpus {resources.gpu} {resources.limit} {params.flags}"
        " --model {input.model} --weights {output.adapter} > {log} 2>&1"
