"""What a worker process can run: one engine for each kind of backend."""
