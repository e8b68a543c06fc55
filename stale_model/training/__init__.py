"""Losses, optimization, validation, and the files that a training writes."""
