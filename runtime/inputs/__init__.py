"""What a user brings: features, prompts, and the durations of videos."""
