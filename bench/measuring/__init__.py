"""Processes that take turns on one CPU, and what they measure."""
