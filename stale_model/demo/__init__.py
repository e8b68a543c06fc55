"""A data set of drawn videos with towers of its own, to see every command at work without downloading anything."""
