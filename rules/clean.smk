"""Wording that should not be learned: found in all texts, and in train and validation dropped or rewritten where asked.

In: data/samples.parquet, data/disagreements.jsonl. Out: data/wording.parquet, wording.json; of each cleaning that is not
keep, data/cleaned/{cleaned}.parquet and .json, and beside them rewrites.jsonl, all that a server ever answered.
"""


container: IMAGES["evaluate"]


rule find_wording:
    """Chatty, vague, garbled, rare, repeated wording of all kept rows, and texts that contradict their pixels."""
    input:
        samples="<results>/data/samples.parquet",
        disagreements="<results>/data/disagreements.jsonl",
    output:
        found="<results>/data/wording.parquet",
        summary="<results>/data/wording.json",
    log:
        "<logs>/find_wording.log",
    benchmark:
        "<benchmarks>/find_wording.jsonl"
    resources:
        mem_mb=memory(300, per_mb=40),
    params:
        code=digest("radtune.clean.wording"),
    shell:
        "radtune find-wording --samples {input.samples} --disagreements {input.disagreements}"
        " --out {output.found} --summary {output.summary} 2> {log}"


rule clean_texts:
    """Drop rows, or have a server rewrite their texts; how fast it is asked stands under resources."""
    input:
        samples="<results>/data/samples.parquet",
        wording="<results>/data/wording.parquet",
        prompt=cleaning_prompt,
    output:
        out="<results>/data/cleaned/{cleaned}.parquet",
        summary="<results>/data/cleaned/{cleaned}.json",
    log:
        "<logs>/clean_texts/{cleaned}.log",
    benchmark:
        "<benchmarks>/clean_texts/{cleaned}.jsonl"
    resources:
        mem_mb=memory(400, per_mb=60),
        server=cleaning_server,
    params:
        code=digest("radtune.clean.rewrite"),
        flags=cleaning_flags,
    shell:
        "radtune clean {params.flags} {resources.server} --out {output.out} --summary {output.summary} 2> {log}"
