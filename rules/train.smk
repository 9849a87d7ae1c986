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
        yaml="<results>/train/{experiment}/train.yaml",
        rest=multiext(
            "<results>/train/{experiment}/",
            "trainer_log.jsonl",
            "loss.png",
            "summary.json",
        ),
    log:
        "<logs>/train_adapter/{experiment}.log",
    benchmark:
        "<benchmarks>/train_adapter/{experiment}.jsonl"
    threads: 8
    resources:
        gpu=1,
    params:
        code=digest("radtune.train.launch"),
        flags=train_flags,
        dataset_dir=subpath(input.sharegpt, parent=True),
        out=subpath(output.yaml, parent=True),
    shell:
        "radtune train {params.flags} --model {input.model} --dataset-dir {params.dataset_dir}"
        " --weights {output.adapter} --out {params.out} > {log} 2>&1"
