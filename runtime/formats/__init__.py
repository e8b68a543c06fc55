"""What detections are written as: tables, subtitles, labels for editors, and rows for programs."""
