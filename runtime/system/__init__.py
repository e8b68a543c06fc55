"""Files, memory and CPUs: what the operating system gives, within bounds."""
