"""Pages for a person: the samples before training, and the report after it.

In: sharegpt/, samples, predictions, scores, losses. Out: preview/{dataset}.html, report/index.html, config.yaml.
"""


rule write_config:
    """The merged config, as it was checked and filled in."""
    output:
        "<results>/config.yaml",
    log:
        "<logs>/write_config.log",
    params:
        config=json.dumps(CONFIG, ensure_ascii=False),
    shell:
        "radtune write-config --config {params.config:q} --out {output} 2> {log}"


rule draw_preview:
    """Each split's first samples: before and after, size, mode, tag, prompt and answer."""
    input:
        sharegpt="<results>/sharegpt/{dataset}/dataset_info.json",
        samples="<results>/data/samples.parquet",
        images="<results>/data/images.parquet",
        shards=collect("<results>/data/shards/{shard}.parquet", shard=shards),
        media=recipe_files("<results>/images/{recipe}/{shard}"),
    output:
        "<results>/preview/{dataset}.html",
    log:
        "<logs>/draw_preview/{dataset}.log",
    benchmark:
        "<benchmarks>/draw_preview/{dataset}.jsonl"
    params:
        code=digest("radtune.report.preview"),
        sharegpt=subpath(input.sharegpt, parent=True),
        shards=f"{RESULTS}/data/shards",
        media_dir=MEDIA,
        column=lookup(dpath="dataset/columns/image", within=CONFIG),
    shell:
        "radtune preview"
        " --sharegpt {params.sharegpt}"
        " --samples {input.samples}"
        " --images {input.images}"
        " --shards {params.shards}"
        " --media-dir {params.media_dir}"
        " --column {params.column:q}"
        " --out {output} 2> {log}"
