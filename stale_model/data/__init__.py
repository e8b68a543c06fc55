"""The videos to train on, their features and targets, and the splits of the classes."""
