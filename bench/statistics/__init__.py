"""Confidence intervals and trends."""
