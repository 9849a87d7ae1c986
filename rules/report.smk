"""Pages for a person: the samples before training, and the report after it.

In: sharegpt/, samples, predictions, scores, losses, merged models. Out: preview/{dataset}.html, report/index.html, config.yaml;
of the target `export`, export/{experiment}/model/, the merged model with its model card.
"""


container: IMAGES["evaluate"]


rule write_config:
    """The merged config, as it was checked and filled in."""
    output:
        shown("<results>/config.yaml", "config", "Config"),
    log:
        "<logs>/write_config.log",
    resources:
        mem_mb=memory(100),
    params:
        config=json.dumps(CONFIG, ensure_ascii=False),
    shell:
        "radtune write-config --config {params.config:q} --out {output} 2> {log}"


rule draw_preview:
    """A sample of each split and tag, before and after with its box; the data in figures."""
    input:
        data=collect("<results>/data/{file}", file=DATA_FILES.values()),
        sharegpt="<results>/sharegpt/{dataset}/dataset_info.json",
        images="<results>/data/images.parquet",
        scan=collect("<results>/data/scan/{shard}.parquet", shard=shards),
        shards=collect("<results>/data/shards/{shard}.parquet", shard=shards),
        geometry=recipe_files("<results>/images/{recipe}/geometry/{shard}.parquet"),
        media=recipe_files("<results>/images/{recipe}/{shard}"),
    output:
        "<results>/preview/{dataset}.html",
    log:
        "<logs>/draw_preview/{dataset}.log",
    benchmark:
        "<benchmarks>/draw_preview/{dataset}.jsonl"
    resources:
        mem_mb=memory(300, per_mb=0.1),
    params:
        code=digest("radtune.report.preview"),
        flags=preview_flags,
    shell:
        "radtune preview {params.flags} --images {input.images}"
        " --scan {input.scan} --geometry {input.geometry} --out {output} 2> {log}"


rule write_report:
    """One self-contained page: scores beside their floors, losses, samples, what became of every row."""
    input:
        files=["<results>/config.yaml", "<results>/evaluate/differences.json", "<results>/data/wording.json"],
        cleaned=CLEANED_FILES,
        evaluations=collect("<results>/evaluate/{of}.json", of=SCORED),
        sample_scores=collect("<results>/evaluate/{of}.samples.parquet", of=SCORED),
        predictions=collect("<results>/predict/{of}.jsonl", of=SCORED),
        losses=collect("<results>/train/{experiment}/trainer_log.jsonl", experiment=TRAINED),
        data=collect("<results>/data/{file}", file=[*DATA_FILES.values(), "manifest.json"]),
    output:
        shown("<results>/report/index.html", "page", "Report"),
    log:
        "<logs>/write_report.log",
    benchmark:
        "<benchmarks>/write_report.jsonl"
    resources:
        mem_mb=memory(250, per_mb=3),
    params:
        code=digest("radtune.report.page"),
        flags=report_flags(),
    shell:
        "radtune report {params.flags} --evaluations {input.evaluations}"
        " --sample-scores {input.sample_scores} --predictions {input.predictions} --out {output} 2> {log}"


rule write_card:
    """The model card: what the adapter learned from, its scores beside floors and base, its settings."""
    input:
        config="<results>/config.yaml",
        evaluations=card_evaluations,
        training=collect("<results>/train/{{experiment}}/{file}", file=["summary.json", "train.yaml"]),
        data=collect("<results>/data/{file}", file=[*DATA_FILES.values(), "manifest.json"]),
    output:
        "<results>/export/{experiment}/README.md",
    log:
        "<logs>/write_card/{experiment}.log",
    benchmark:
        "<benchmarks>/write_card/{experiment}.jsonl"
    resources:
        mem_mb=memory(250, per_mb=3),
    params:
        code=digest("radtune.report.card"),
        flags=card_flags,
    shell:
        "radtune card {params.flags} --config {input.config} --evaluations {input.evaluations} --out {output} 2> {log}"


rule export_model:
    """The merged model, by hard links where it can, with its model card."""
    input:
        model="<results>/train/{experiment}/merged",
        card="<results>/export/{experiment}/README.md",
    output:
        directory("<results>/export/{experiment}/model"),
    log:
        "<logs>/export_model/{experiment}.log",
    resources:
        mem_mb=memory(10),
    shell:
        "{{ cp -rl {input.model} {output} || cp -rT {input.model} {output}; }} 2> {log} &&"
        " cp --remove-destination {input.card} {output}/README.md 2>> {log}"
