"""Parquet shards to what the trainer loads: every row accounted for, each unique image enhanced once.

In: data/shards/{shard}.parquet. Out: data/manifest.json, samples.parquet, quarantine.jsonl, leakage.json,
images/{recipe}/{shard}/, sharegpt/{dataset}/ with {split}.json and {split}.reworded.json. Fan out over shards, never over images.
"""


container: IMAGES["prepare"]


ruleorder: add_cases > write_sharegpt


rule index_shard:
    """Each row's id, tag, image digest and parsed answer, or the reason why it cannot be used."""
    input:
        shard="<results>/data/shards/{shard}.parquet",
        # what params.split reads: a job that starts by itself, on a cluster, finds it through an input alone
        listing=ancient("<results>/data/shards.json"),
    output:
        "<results>/data/index/{shard}.parquet",
    log:
        "<logs>/index_shard/{shard}.log",
    benchmark:
        "<benchmarks>/index_shard/{shard}.jsonl"
    resources:
        mem_mb=memory(650),
    params:
        code=digest("radtune.data.index"),
        split=shard_entry("split"),
        columns=json.dumps(lookup(dpath="dataset/columns", within=CONFIG)),
    shell:
        "radtune index"
        " --shard {input.shard}"
        " --split {params.split}"
        " --columns {params.columns:q}"
        " --out {output} 2> {log}"


rule merge_index:
    """One owner row for each unique image, and the manifest of what was read."""
    input:
        shards="<results>/data/shards.json",
        index=collect("<results>/data/index/{shard}.parquet", shard=shards),
    output:
        images="<results>/data/images.parquet",
        manifest="<results>/data/manifest.json",
    log:
        "<logs>/merge_index.log",
    benchmark:
        "<benchmarks>/merge_index.jsonl"
    resources:
        mem_mb=memory(150, per_mb=13),
    params:
        code=digest("radtune.data.index"),
    shell:
        "radtune merge-index --shards {input.shards} --index {input.index}"
        " --images {output.images} --manifest {output.manifest} 2> {log}"


rule scan_shard:
    """Which images decode in full, their size and mode, the box burned into them; and, while their pixels are in
    memory, the enhanced images for enhance_shard to take. Recipes stand under resources, which make nothing stale.
    """
    input:
        shard="<results>/data/shards/{shard}.parquet",
        images="<results>/data/images.parquet",
    output:
        "<results>/data/scan/{shard}.parquet",
    log:
        "<logs>/scan_shard/{shard}.log",
    benchmark:
        "<benchmarks>/scan_shard/{shard}.jsonl"
    priority: 2  # the longest jobs: what else there is to do fits beside the last ones
    resources:
        mem_mb=memory(650),
        recipes=json.dumps({AHEAD[name]: recipe for name, recipe in RECIPES.items()}),
    params:
        code=digest("radtune.images.scan", without="radtune.images.enhance"),
        column=lookup(dpath="dataset/columns/image", within=CONFIG),
    shell:
        "radtune scan --shard {input.shard} --images {input.images} --column {params.column:q}"
        " --recipes {resources.recipes:q} --out {output} 2> {log}"


rule split_samples:
    """Keep or quarantine every row, group what belongs together, split."""
    input:
        index=collect("<results>/data/index/{shard}.parquet", shard=shards),
        scan=collect("<results>/data/scan/{shard}.parquet", shard=shards),
    output:
        samples="<results>/data/samples.parquet",
        quarantine="<results>/data/quarantine.jsonl",
        leakage=shown("<results>/data/leakage.json", "leakage", "Data"),
    log:
        "<logs>/split_samples.log",
    benchmark:
        "<benchmarks>/split_samples.jsonl"
    priority: 1
    resources:
        mem_mb=memory(250, per_mb=50),
    params:
        code=digest("radtune.data.split"),
        flags=split_flags(),
    shell:
        "radtune split {params.flags} --index {input.index} --scan {input.scan}"
        " --samples {output.samples} --quarantine {output.quarantine} --leakage-out {output.leakage} 2> {log}"


rule check_texts:
    """Texts against the rectangle in their pixels, forms of coordinates, shares met."""
    input:
        index=collect("<results>/data/index/{shard}.parquet", shard=shards),
        scan=collect("<results>/data/scan/{shard}.parquet", shard=shards),
        samples="<results>/data/samples.parquet",
    output:
        checks="<results>/data/checks.json",
        disagreements="<results>/data/disagreements.jsonl",
    log:
        "<logs>/check_texts.log",
    benchmark:
        "<benchmarks>/check_texts.jsonl"
    resources:
        mem_mb=memory(150, per_mb=12),
    params:
        code=digest("radtune.data.check"),
        flags=flags({key: CONFIG["split"][key] for key in ("by", "fractions")}),
    shell:
        "radtune check {params.flags} --index {input.index} --scan {input.scan} --samples {input.samples}"
        " --out {output.checks} --disagreements {output.disagreements} 2> {log}"


rule enhance_shard:
    """CLAHE on grey and a letterbox, for each image that the shard owns; taken by the shell where scan_shard made it."""
    input:
        shard="<results>/data/shards/{shard}.parquet",
        images="<results>/data/images.parquet",
        scan="<results>/data/scan/{shard}.parquet",
    output:
        images=directory("<results>/images/{recipe}/{shard}"),
        geometry="<results>/images/{recipe}/geometry/{shard}.parquet",
    log:
        "<logs>/enhance_shard/{recipe}/{shard}.log",
    benchmark:
        "<benchmarks>/enhance_shard/{recipe}/{shard}.jsonl"
    resources:
        mem_mb=memory(650),
        ahead=made_ahead,
    params:
        code=digest("radtune.images.enhance"),
        flags=enhance_flags,
    shell:
        "mv {resources.ahead}.parquet {output.geometry} 2> {log} &&"
        " mv -T {resources.ahead} {output.images} 2> {log} ||"
        " radtune enhance {params.flags} --shard {input.shard} --images {input.images}"
        " --out {output.images} --geometry {output.geometry} 2> {log}"


rule write_sharegpt:
    """The ShareGPT JSON of each split and dataset_info.json."""
    input:
        samples="<results>/data/samples.parquet",
        geometry=recipe_files("<results>/images/{recipe}/geometry/{shard}.parquet"),
        prompts=ancient(prompts_file),  # what is used of it is a parameter
        cleaned=cleaned_file,
    output:
        collect("<results>/sharegpt/{{dataset}}/{split}.json", split=["train", "validation", "test"]),
        info="<results>/sharegpt/{dataset}/dataset_info.json",
    log:
        "<logs>/write_sharegpt/{dataset}.log",
    benchmark:
        "<benchmarks>/write_sharegpt/{dataset}.jsonl"
    resources:
        mem_mb=memory(160, per_mb=80),
    params:
        code=digest("radtune.data.sharegpt"),
        flags=sharegpt_flags,
        asked=prompts_used,
        folder=subpath(output.info, parent=True),
    shell:
        "radtune sharegpt {params.flags} --samples {input.samples} --geometry {input.geometry}"
        " --prompts {input.prompts} --out {params.folder} 2> {log}"


rule reword_split:
    """A split's questions in words that training never uses."""
    input:
        sharegpt="<results>/sharegpt/{dataset}/{split}.json",
        prompts=ancient(prompts_file),
    output:
        "<results>/sharegpt/{dataset}/{split}.reworded.json",
    log:
        "<logs>/reword_split/{dataset}.{split}.log",
    benchmark:
        "<benchmarks>/reword_split/{dataset}.{split}.jsonl"
    resources:
        mem_mb=memory(160, per_mb=20),
    params:
        code=digest("radtune.data.sharegpt"),
        flags=reword_flags,
        asked=unseen_wordings,
    shell:
        "radtune reword {params.flags} --sharegpt {input.sharegpt} --prompts {input.prompts} --out {output} 2> {log}"


rule add_cases:
    """The ShareGPT JSON without cases, and the answers of similar cases in its questions."""
    input:
        sharegpt=plain_file,
        cases=cases_files,
        prompts=ancient(prompts_file),
    output:
        collect("<results>/sharegpt/{{dataset}}/{split}.json", split=["train", "validation", "test"]),
        info="<results>/sharegpt/{dataset}/dataset_info.json",
    log:
        "<logs>/add_cases/{dataset}.log",
    benchmark:
        "<benchmarks>/add_cases/{dataset}.jsonl"
    wildcard_constraints:
        dataset="|".join(WITH_CASES) or "(?!)",  # none
    resources:
        mem_mb=memory(300, per_mb=20),
    params:
        code=digest("radtune.data.add_cases"),
        flags=cases_flags,
        asked=cases_wording,
    shell:
        "radtune add-cases {params.flags} --sharegpt $(dirname {input.sharegpt}) --cases {input.cases}"
        " --prompts {input.prompts} --out $(dirname {output.info}) 2> {log}"
