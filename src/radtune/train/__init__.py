"""LLaMA-Factory's configuration and its supervised run, and a tiny model to try both on a laptop."""
