"""Cleaning of the texts that are learned: wording found in all, and of train and validation dropped or rewritten."""
