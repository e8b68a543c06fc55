"""From features and prompts to detections: the localizer, its backends and the text encoder."""
