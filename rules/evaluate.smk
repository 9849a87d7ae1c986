"""Scores of each experiment and of the shuffled references beside them, per tag and overall.

In: predict/{experiment}/{split}.jsonl. Out: evaluate/{experiment}/{split}.json and {split}.samples.parquet, and
evaluate/differences.json.
"""


container: IMAGES["evaluate"]


rule evaluate_split:
    """Score the predictions of one experiment on one split."""
    input:
        "<results>/predict/{experiment}/{split}.jsonl",
    output:
        scores="<results>/evaluate/{experiment}/{split}.json",
        samples="<results>/evaluate/{experiment}/{split}.samples.parquet",
    log:
        "<logs>/evaluate_split/{experiment}/{split}.log",
    benchmark:
        "<benchmarks>/evaluate_split/{experiment}/{split}.jsonl"
    resources:
        mem_mb=memory(350, per_mb=110),
    params:
        code=digest("radtune.evaluate.score"),
    shell:
        "radtune evaluate" " --predictions {input}" " --out {output.scores}" " --samples {output.samples} 2> {log}"


rule compare_experiments:
    """Differences between each two experiments, with interval and p."""
    input:
        collect("<results>/evaluate/{of}.samples.parquet", of=SCORED),
    output:
        "<results>/evaluate/differences.json",
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
