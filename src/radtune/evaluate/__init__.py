"""Scores of predictions against references, each beside the score of a floor that knows nothing of the image."""
