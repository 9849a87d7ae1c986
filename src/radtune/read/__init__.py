"""A finished run applied to new images, by command, by rule or on a page. Like cli.py, it stands on top of the stages:
it may import them, and no stage imports it.
"""
