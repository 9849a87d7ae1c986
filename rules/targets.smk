"""What each target name stands for; `snakemake -- NAME` stops there.

Each asks for all that lies on its way: Snakemake deletes the outputs of a job that failed, and would otherwise take what
was made from its earlier ones for finished.
"""


rule prepare:
    input:
        shard_files,
        SHAREGPT,
        CLEANED_FILES,
        "<results>/data/checks.json",


rule preview:
    input:
        collect("<results>/preview/{dataset}.html", dataset=DATASETS),


rule train:
    input:
        rules.prepare.input,
        ADAPTERS,


rule predict:
    input:
        rules.train.input,
        collect("<results>/predict/{of}.jsonl", of=SCORED),


rule evaluate:
    input:
        rules.predict.input,
        collect("<results>/evaluate/{of}.json", of=SCORED),
        "<results>/evaluate/differences.json",


rule report:
    input:
        rules.evaluate.input,
        "<results>/data/wording.json",
        "<results>/report/index.html",


rule read:
    input:
        reading_page,


rule export:
    input:
        rules.evaluate.input,
        collect("<results>/export/{experiment}/model", experiment=TRAINED),
