"""What all commands share: kinds of options, messages and exit codes, results to stdout or a file."""
