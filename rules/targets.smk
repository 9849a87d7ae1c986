"""What each target name stands for; `snakemake -- NAME` stops there."""


rule prepare:
    input:
        SHAREGPT,
        "<results>/data/checks.json",


rule preview:
    input:
        collect("<results>/preview/{dataset}.html", dataset=DATASETS),


rule train:
    input:
        ADAPTERS,


rule predict:
    input:
        collect("<results>/predict/{of}.jsonl", of=SCORED),


rule evaluate:
    input:
        collect("<results>/evaluate/{of}.json", of=SCORED),


rule report:
    input:
        "<results>/report/index.html",


rule export:
    input:
        collect("<results>/export/{experiment}/model", experiment=TRAINED),
