"""Videos: reading their frames in a process of its own, at the times that a feature recipe names."""
