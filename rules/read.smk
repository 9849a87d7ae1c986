"""New images read by an experiment's model: the target `read`, with the config's `read`.

In: read.path, model, adapter, sharegpt/{dataset}/train.json for the prompts, the scores on test where the experiment has
them. Out: read/{experiment}/reading.json, pictures/, index.html.
"""


rule prepare_reading:
    """Each image or frame enhanced as for training, and a question for each task."""
    input:
        images=READ["path"] if READ else [],
        train=reading_train,
    output:
        directory("<results>/read/{experiment}/prepared"),
    log:
        "<logs>/prepare_reading/{experiment}.log",
    benchmark:
        "<benchmarks>/prepare_reading/{experiment}.jsonl"
    container:
        IMAGES["prepare"]
    resources:
        mem_mb=memory(1000, per_mb=20),
    params:
        code=digest("radtune.read.prepare"),
        images=new_images() if READ else "",
        flags=prepare_reading_flags,
    shell:
        "radtune prepare-reading {input.images:q} {params.flags} --train {input.train} --out {output} 2> {log}"


rule find_similar:
    """The training images that look most alike, and the questions with their answers where the experiment has them."""
    input:
        prepared="<results>/read/{experiment}/prepared",
        samples="<results>/data/samples.parquet",
        index=similar_index,
        encoder=similar_encoder,
        train=reading_train,
    output:
        directory("<results>/read/{experiment}/similar"),
    log:
        "<logs>/find_similar/{experiment}.log",
    container:
        IMAGES["train"]
    resources:
        **gpu_job(hours=1, mem_mb=memory(2800 + CUDA, per_mb=1 if CUDA else 2, of="encoder")),
    params:
        code=digest("radtune.read.cases"),
        flags=similar_flags,
    shell:
        "radtune similar-cases --gpus {resources.gpu} {resources.limit} {params.flags} --prepared {input.prepared}"
        " --index {input.index} --encoder {input.encoder} --samples {input.samples} --train {input.train}"
        " --out {output} > {log} 2>&1"


rule predict_reading:
    """The model's answers to them, or to a chunk of them."""
    input:
        model=model_folder,
        adapter=own_adapter,
        prepared="<results>/read/{experiment}/prepared",
        similar=similar_folder,
    output:
        "<results>/read/{experiment}/predictions{chunk}.jsonl",
    log:
        "<logs>/predict_reading/{experiment}{chunk}.log",
    benchmark:
        "<benchmarks>/predict_reading/{experiment}{chunk}.jsonl"
    container:
        IMAGES["train"]
    resources:
        **gpu_job(hours=8, mem_mb=MODEL_MEMORY),
    params:
        code=digest("radtune.predict.generate"),
        flags=reading_flags,
    shell:
        "radtune predict --gpus {resources.gpu} {resources.limit} {params.flags} --model {input.model}"
        " --out {output} > {log} 2>&1"


rule write_reading:
    """JSON by its schema, each image with its box, and one self-contained page."""
    input:
        config="<results>/config.yaml",
        prepared="<results>/read/{experiment}/prepared",
        predictions=reading_chunks,
        evaluation=reading_scores,
        similar=similar_folder,
    output:
        page="<results>/read/{experiment}/index.html",
        reading="<results>/read/{experiment}/reading.json",
        pictures=directory("<results>/read/{experiment}/pictures"),
    log:
        "<logs>/write_reading/{experiment}.log",
    container:
        IMAGES["evaluate"]
    resources:
        mem_mb=memory(600),
    params:
        code=digest("radtune.read.write"),
        flags=write_reading_flags,
    shell:
        "radtune write-reading {params.flags} --predictions {input.predictions}"
        " --experiment {wildcards.experiment} --out $(dirname {output.page}) 2> {log}"
