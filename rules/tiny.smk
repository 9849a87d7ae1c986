"""The demo's model: a random Qwen3-VL of the real class, trained in full on practice phantoms with other words.

In: the config's model.tiny. Out: tiny/{name}/ (practice data, the random model, its training), model/{name}.
"""


container: IMAGES["train"]


rule draw_practice:
    """Other phantoms, asked and answered in other words than the task's."""
    output:
        directory("<results>/tiny/{tiny}/practice"),
    log:
        "<logs>/draw_practice/{tiny}.log",
    benchmark:
        "<benchmarks>/draw_practice/{tiny}.jsonl"
    container:
        IMAGES["prepare"]
    resources:
        mem_mb=memory(250),
    params:
        code=digest("radtune.data.phantom"),
        images=lookup(dpath="{tiny}/model/tiny/images", within=MODELS),
        seed=lookup(dpath="{tiny}/model/tiny/seed", within=MODELS),
    shell:
        "radtune draw-practice --images {params.images} --seed {params.seed} --out {output} 2> {log}"


rule enhance_practice:
    """The practice phantoms in the size of the task's images."""
    input:
        "<results>/tiny/{tiny}/practice",
    output:
        images=directory("<results>/tiny/{tiny}/images/practice"),
        geometry="<results>/tiny/{tiny}/geometry.parquet",
    log:
        "<logs>/enhance_practice/{tiny}.log",
    benchmark:
        "<benchmarks>/enhance_practice/{tiny}.jsonl"
    container:
        IMAGES["prepare"]
    resources:
        mem_mb=memory(650),
    params:
        code=digest("radtune.images.enhance"),
        flags=practice_flags,
    shell:
        "radtune enhance {params.flags} --shard {input}/practice.parquet --images {input}/images.parquet"
        " --out {output.images} --geometry {output.geometry} 2> {log}"


rule build_tiny:
    """A random Qwen3-VL with a tokenizer trained on the practice texts and the prompts."""
    input:
        practice="<results>/tiny/{tiny}/practice",
        prompts=ancient(PROMPTS),  # what is used of them is a parameter
    output:
        directory("<results>/tiny/{tiny}/random"),
    log:
        "<logs>/build_tiny/{tiny}.log",
    benchmark:
        "<benchmarks>/build_tiny/{tiny}.jsonl"
    resources:
        mem_mb=memory(900),
    params:
        code=digest("radtune.train.tiny"),
        asked=practised_wordings,
        wordings=PRACTISED,
        seed=lookup(dpath="{tiny}/model/tiny/seed", within=MODELS),
    shell:
        "radtune build-tiny"
        " --corpus {input.practice}/train.json {input.prompts} --wordings {params.wordings}"
        " --seed {params.seed}"
        " --out {output} > {log} 2>&1"


rule teach_tiny:
    """Teach its vision tower to see, which the language model alone would take thousands of steps for."""
    input:
        model="<results>/tiny/{tiny}/random",
        practice="<results>/tiny/{tiny}/practice",
        images="<results>/tiny/{tiny}/images/practice",
    output:
        directory("<results>/tiny/{tiny}/seeing"),
    log:
        "<logs>/teach_tiny/{tiny}.log",
    benchmark:
        "<benchmarks>/teach_tiny/{tiny}.jsonl"
    resources:
        **gpu_job(hours=1, mem_mb=SEE_MEMORY),
    params:
        code=digest("radtune.train.see"),
        flags=see_flags,
        media=subpath(input.images, parent=True),
    shell:
        "radtune teach-to-see --gpus {resources.gpu} {resources.limit} {params.flags} --model {input.model}"
        " --practice {input.practice}/train.json --media-dir {params.media} --out {output} > {log} 2>&1"


rule train_tiny:
    """Train the tiny model in full to speak of what it sees; it has not met the task."""
    input:
        model="<results>/tiny/{tiny}/seeing",
        practice="<results>/tiny/{tiny}/practice",
        images="<results>/tiny/{tiny}/images/practice",
    output:
        model=directory("<results>/model/{tiny}"),
        summary="<results>/tiny/{tiny}/summary.json",
    log:
        "<logs>/train_tiny/{tiny}.log",
    benchmark:
        "<benchmarks>/train_tiny/{tiny}.jsonl"
    threads: 2  # the whole demo waits for it: 2.9 steps a second instead of 2.3
    resources:
        **gpu_job(hours=1, mem_mb=MODEL_MEMORY),
    params:
        code=digest("radtune.train.launch"),
        flags=tiny_flags,
        media=subpath(input.images, parent=True),
    shell:
        "radtune train --gpus {resources.gpu} {resources.limit} {params.flags} --model {input.model}"
        " --dataset-dir {input.practice} --media-dir {params.media}"
        " --weights {output.model} --out $(dirname {output.summary}) > {log} 2>&1"
