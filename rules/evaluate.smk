"""Scores of each experiment and of floors beside them, per tag and overall.

In: predict/{experiment}/{split}.jsonl, sharegpt/{dataset}/, images/{recipe}/geometry/. Out: evaluate/{experiment}/{split}.json
and {split}.samples.parquet, with an encoder {split}.embedding.parquet, and evaluate/differences.json.
"""


container: IMAGES["evaluate"]


rule find_neighbours:
    """The training images that look most like each image of a split."""
    input:
        train="<results>/sharegpt/{dataset}/train.json",
        asked="<results>/sharegpt/{dataset}/{split}.json",
        media=recipe_files("<results>/images/{recipe}/{shard}"),
    output:
        "<results>/evaluate/neighbours/{dataset}.{split}.parquet",
    log:
        "<logs>/find_neighbours/{dataset}.{split}.log",
    benchmark:
        "<benchmarks>/find_neighbours/{dataset}.{split}.jsonl"
    resources:
        mem_mb=memory(600, per_mb=20),
    params:
        code=digest("radtune.evaluate.neighbours"),
        media=MEDIA,
    shell:
        "radtune find-neighbours --train {input.train} --asked {input.asked} --media-dir {params.media}"
        " --out {output} 2> {log}"


rule embed_answers:
    """How near answers are to their references by an encoder, where the config names one; on the CPU."""
    input:
        model=CONFIG["evaluation"]["embedding"] or [],
        predictions="<results>/predict/{experiment}/{split}.jsonl",
        train=sharegpt_file("train.json"),
        neighbours=neighbours_file,
        blank=blank_file,
    output:
        "<results>/evaluate/{experiment}/{split}.embedding.parquet",
    log:
        "<logs>/embed_answers/{experiment}/{split}.log",
    benchmark:
        "<benchmarks>/embed_answers/{experiment}/{split}.jsonl"
    container:
        IMAGES["train"]
    resources:
        mem_mb=memory(4000, per_mb=20),
    params:
        code=digest("radtune.evaluate.embed"),
        flags=input_flags,
    shell:
        "radtune embed {params.flags} --out {output} 2> {log}"


rule evaluate_split:
    """Score the predictions of one experiment on one split."""
    input:
        predictions="<results>/predict/{experiment}/{split}.jsonl",
        train=sharegpt_file("train.json"),
        neighbours=neighbours_file,
        blank=blank_file,
        unseen=reworded_file,
        embedding=embedding_file,
        geometry=recipe_files("<results>/images/{recipe}/geometry/{shard}.parquet"),
    output:
        scores=shown("<results>/evaluate/{experiment}/{split}.json", "scores", "Scores", "experiment", "split"),
        samples="<results>/evaluate/{experiment}/{split}.samples.parquet",
    log:
        "<logs>/evaluate_split/{experiment}/{split}.log",
    benchmark:
        "<benchmarks>/evaluate_split/{experiment}/{split}.jsonl"
    resources:
        mem_mb=memory(350, per_mb=110),
    params:
        code=digest("radtune.evaluate.score"),
        flags=evaluate_flags,
    shell:
        "radtune evaluate {params.flags} --out {output.scores} --samples {output.samples} 2> {log}"


rule compare_experiments:
    """Differences between each two experiments, with interval and p."""
    input:
        collect("<results>/evaluate/{of}.samples.parquet", of=SCORED),
    output:
        shown("<results>/evaluate/differences.json", "differences", "Scores"),
    log:
        "<logs>/compare_experiments.log",
    benchmark:
        "<benchmarks>/compare_experiments.jsonl"
    resources:
        mem_mb=memory(350, per_mb=30),
    params:
        code=digest("radtune.evaluate.compare"),
    shell:
        "radtune compare-experiments --samples {input} --out {output} 2> {log}"
