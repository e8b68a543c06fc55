"""The CLIP that the original's checkpoints were trained with. Importing this module does not load PyTorch."""

DEFAULT_CLIP = "openai/clip-vit-base-patch32"
"""A Hugging Face id."""
