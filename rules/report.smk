"""Pages for a person: the samples before training, and the report after it.

In: sharegpt/, samples, predictions, scores, losses. Out: preview/{dataset}.html, report/index.html, config.yaml.
"""


container: IMAGES["evaluate"]


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
        flags=preview_flags,
    shell:
        "radtune preview {params.flags} --sharegpt {params.sharegpt} --samples {input.samples}"
        " --images {input.images} --out {output} 2> {log}"
