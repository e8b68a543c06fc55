"""The inputs that a user gives: features, prompts, and the durations of videos."""
