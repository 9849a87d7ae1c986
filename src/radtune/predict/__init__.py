"""Answers of a model, with or without an adapter, to the samples of a ShareGPT file."""
