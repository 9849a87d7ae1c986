"""The data and the model: parquet shards from a folder, object storage, a hub or drawn here; the model likewise or tiny.

In: the config's dataset and model. Out: data/shards.json, data/shards/{shard}.parquet, model/{name}.
"""


container: IMAGES["prepare"]


rule draw_phantoms:
    """Head-CT phantoms in the data set's shape."""
    output:
        directory(PHANTOMS),
    log:
        "<logs>/draw_phantoms.log",
    benchmark:
        "<benchmarks>/draw_phantoms.jsonl"
    resources:
        mem_mb=memory(280 + CONFIG["dataset"]["phantom"]["images"] // 12),
    params:
        code=digest("radtune.data.phantom"),
        flags=flags(CONFIG["dataset"]["phantom"]),
    shell:
        "radtune draw-phantoms {params.flags} --out {output} 2> {log}"


checkpoint list_shards:
    """Name every shard; how many there are decides the shape of what follows."""
    input:
        source_files(),
    output:
        "<results>/data/shards.json",
    log:
        "<logs>/list_shards.log",
    benchmark:
        "<benchmarks>/list_shards.jsonl"
    resources:
        mem_mb=memory(200),
    params:
        code=digest("radtune.data.source"),
        flags=list_flags,
    shell:
        "radtune list-shards {params.flags} --out {output} 2> {log}"


rule fetch_shard:
    """Link or download one shard."""
    input:
        shard_file,
    output:
        "<results>/data/shards/{shard}.parquet",
    log:
        "<logs>/fetch_shard/{shard}.log",
    benchmark:
        "<benchmarks>/fetch_shard/{shard}.jsonl"
    resources:
        mem_mb=memory(10 if LOCAL else 1000),  # 60 MiB by plain HTTP; hf_xet was not measured
    params:
        code="" if LOCAL else digest("radtune.data.source"),  # a link is made by none of it
        origin=shard_entry("origin"),
        flags=fetch_flags,
    shell:
        FETCH_SHARD


rule fetch_model:
    """Download the model, or a vision encoder, from a hub at its revision, or from object storage as it is now."""
    output:
        directory("<results>/model/{hub}"),
    log:
        "<logs>/fetch_model/{hub}.log",
    benchmark:
        "<benchmarks>/fetch_model/{hub}.jsonl"
    resources:
        mem_mb=memory(1000),  # as for a shard
    params:
        code=digest("radtune.hubs"),
        flags=model_flags,
    shell:
        "radtune fetch-model {params.flags} --out {output} 2> {log}"
