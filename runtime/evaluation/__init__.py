"""Annotations, detections of many videos, and their mean average precision."""
