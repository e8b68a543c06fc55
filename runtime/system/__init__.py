"""Files, memory and CPUs of the operating system."""
