"""Synthetic videos and classes, to try every command without a data set."""
