"""Made-up videos and classes, to try every command without a dataset."""
