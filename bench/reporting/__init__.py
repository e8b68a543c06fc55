"""Measurements as tables, files and plots."""
