"""Medians, intervals and trends."""
