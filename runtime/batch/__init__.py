"""Many videos in one run: which files they are, what is finished already, and how each came out."""
