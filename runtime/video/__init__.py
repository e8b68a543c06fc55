"""From a video file to snippet features."""
