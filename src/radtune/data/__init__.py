"""Parquet rows to ShareGPT: sources, answers, boxes, groups and splits."""
