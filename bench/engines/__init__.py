"""What a worker process can run: one engine a kind of backend."""
