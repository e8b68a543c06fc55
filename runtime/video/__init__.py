"""Videos: reading their frames in a process of its own, as a feature recipe says, and computing features of them."""
