"""Many videos in one run: which files, what an interrupted run has done, and how each came out."""
