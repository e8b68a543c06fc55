"""The CLIP whose text tower the original checkpoints continue to train. Importing this module does not load PyTorch."""

DEFAULT_CLIP = "openai/clip-vit-base-patch32"
"""A Hugging Face id."""
