"""The documentation: the site builds without a warning, and every command and Python example on its pages works."""
