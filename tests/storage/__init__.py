"""Object storage for tests: a real server of S3 on this machine, and one that fails in ways that can be chosen."""
