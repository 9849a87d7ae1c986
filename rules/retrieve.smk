"""Similar training cases: vectors of images, an index of train, the cases of each split, for add_cases to put in questions.

In: model or encoder, images/{recipe}/, data/samples.parquet. Out: retrieve/{encoder}/{recipe}/ with vectors/{shard}.parquet,
index/, cases/{split}.parquet. The index lies a second time beside it in .index.earlier/, as links, since Snakemake deletes
what is to be made again. A training waits for all this, so it has priority.
"""


container: IMAGES["train"]


rule embed_images:
    """One vector for each enhanced image of a shard."""
    input:
        model=encoder_folder,
        images="<results>/images/{recipe}/{shard}",
    output:
        "<results>/retrieve/{encoder}/{recipe}/vectors/{shard}.parquet",
    log:
        "<logs>/embed_images/{encoder}/{recipe}/{shard}.log",
    benchmark:
        "<benchmarks>/embed_images/{encoder}/{recipe}/{shard}.jsonl"
    priority: 2
    resources:
        **gpu_job(hours=1, mem_mb=MODEL_MEMORY),
    params:
        code=digest("radtune.predict.embed_images"),
        flags=embed_flags,
    shell:
        "radtune embed-images --gpus {resources.gpu} {resources.limit} {params.flags}"
        " --model {input.model} --images {input.images} --out {output} > {log} 2>&1"


rule build_index:
    """The index of train's vectors: the earlier one and what is new, where all of that is as it was."""
    input:
        samples="<results>/data/samples.parquet",
        vectors=vector_files,
    output:
        directory("<results>/retrieve/{encoder}/{recipe}/index"),
    log:
        "<logs>/build_index/{encoder}/{recipe}.log",
    benchmark:
        "<benchmarks>/build_index/{encoder}/{recipe}.jsonl"
    priority: 2
    resources:
        mem_mb=memory(600, per_mb=1.5),
    params:
        code=digest("radtune.predict.retrieve"),
    shell:
        "radtune build-index --vectors {input.vectors} --samples {input.samples}"
        " --encoder {wildcards.encoder} --out {output} 2> {log}"


rule find_cases:
    """The training images most similar to each image of a split, of other groups alone."""
    input:
        samples="<results>/data/samples.parquet",
        vectors=vector_files,
        index="<results>/retrieve/{encoder}/{recipe}/index",
    output:
        "<results>/retrieve/{encoder}/{recipe}/cases/{split}.parquet",
    log:
        "<logs>/find_cases/{encoder}/{recipe}/{split}.log",
    benchmark:
        "<benchmarks>/find_cases/{encoder}/{recipe}/{split}.jsonl"
    priority: 2
    resources:
        mem_mb=memory(600, per_mb=1.5),
    params:
        code=digest("radtune.predict.retrieve"),
    shell:
        "radtune find-cases --index {input.index} --vectors {input.vectors} --samples {input.samples}"
        " --split {wildcards.split} --out {output} 2> {log}"
