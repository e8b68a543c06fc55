"""Which videos are trained on, what the network reads of each, and the splits of the classes."""
