"""Finds actions in a video: the use of the library in eight lines.

Start it with ``python examples/detect.py``; with your own bundle, video and classes, change three lines.
"""

from pathlib import Path

from stale_runtime import Localizer

HERE = Path(__file__).parent

localizer = Localizer.open(HERE / "bundle")
prompts = localizer.encode_prompts(["Washing a car", "Washing a dog", "Painting a car", "Carrying a bicycle"])
video = localizer.detect_video(HERE / "washing_a_car.mp4", prompts)
for label, start_s, end_s, score in video.min_score(localizer.reading_score):
    print(f"{start_s:6.1f} s to {end_s:5.1f} s  {label}  (score {score:.2f})")
