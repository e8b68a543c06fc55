"""The CLIP with which the original checkpoints were trained. Importing this module does not load PyTorch."""

DEFAULT_CLIP = "openai/clip-vit-base-patch32"
"""A Hugging Face id."""
