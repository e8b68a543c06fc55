"""Reading and writing checkpoints, the original authors' and ours, without unpickling anything."""
