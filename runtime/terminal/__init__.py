"""What all commands share: types of options, messages, exit codes, and writing results to stdout or a file."""
