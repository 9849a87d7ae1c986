"""A LoRA adapter per experiment, by LLaMA-Factory; checkpoints live beside the outputs and survive a crash.

In: model, sharegpt/{dataset}/, images/{recipe}/. Out: train/{experiment}/ with preflight.json, adapter/, train.yaml, losses;
merged/, for programs that load whole models.
"""


container: IMAGES["train"]


rule check_budget:
    """Token lengths, updates, memory: what would fail after hours of training fails here in minutes."""
    input:
        model=model_folder,
        sharegpt=sharegpt_file("dataset_info.json"),
        media=recipe_files("<results>/images/{recipe}/{shard}"),
    output:
        found="<results>/train/{experiment}/preflight.json",
        picture=shown("<results>/train/{experiment}/preflight.png", "preflight", "Training", "experiment"),
    log:
        "<logs>/check_budget/{experiment}.log",
    benchmark:
        "<benchmarks>/check_budget/{experiment}.jsonl"
    priority: 2  # every experiment's before the first of the trainings, which take hours
    resources:
        **gpu_job(hours=1, mem_mb=CHECK_MEMORY),
        aside=preflight_aside,
    params:
        code=digest("radtune.train.launch"),  # training's own, which would start again with a check of newer code
        flags=preflight_flags,
    shell:
        "radtune preflight --gpus {resources.gpu} {resources.limit} {params.flags} {resources.aside}"
        " --model {input.model} --out {output.found} --picture {output.picture} > {log} 2>&1"


rule train_adapter:
    """Render train.yaml, run LLaMA-Factory, collect the adapter and the losses."""
    input:
        model=model_folder,
        adapter=init_adapter,
        preflight="<results>/train/{experiment}/preflight.json",
        sharegpt=sharegpt_file("dataset_info.json"),
        media=recipe_files("<results>/images/{recipe}/{shard}"),
    output:
        adapter=directory("<results>/train/{experiment}/adapter"),
        files=multiext("<results>/train/{experiment}/", "train.yaml", "trainer_log.jsonl", "summary.json"),
        picture=shown("<results>/train/{experiment}/loss.png", "loss", "Training", "experiment"),
    log:
        "<logs>/train_adapter/{experiment}.log",
    benchmark:
        "<benchmarks>/train_adapter/{experiment}.jsonl"
    threads: training_threads
    resources:
        **gpu_job(hours=160, mem_mb=MODEL_MEMORY),
    params:
        code=digest("radtune.train.launch"),
        flags=train_flags,
    shell:
        "radtune train --gpus {resources.gpu} {resources.limit} {params.flags} --model {input.model} > {log} 2>&1"


rule merge_adapter:
    """Merge the adapter into its model, with tokenizer and processor."""
    input:
        model=model_folder,
        adapter=own_adapter,
    output:
        directory("<results>/train/{experiment}/merged"),
    log:
        "<logs>/merge_adapter/{experiment}.log",
    benchmark:
        "<benchmarks>/merge_adapter/{experiment}.jsonl"
    resources:
        mem_mb=memory(1500, per_mb=2, of="model"),
    params:
        code=digest("radtune.train.merge"),
        template=lookup(dpath="{experiment}/training/template", within=EXPERIMENTS),
    shell:
        "radtune merge --model {input.model} --adapter {input.adapter}"
        " --template {params.template} --out {output} > {log} 2>&1"
