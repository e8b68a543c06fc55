"""Running over many videos: finding their files, continuing an interrupted run, and collecting the outcomes."""
