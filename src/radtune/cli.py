"""radtune STAGE --explicit-file-arguments: what the rules call, and what a person can call without Snakemake."""


def main() -> None:
    raise SystemExit("radtune: no stage yet")
