"""Pages for a browser, each one file that needs nothing else: what was found in a video, and an index of many."""
