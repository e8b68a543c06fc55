"""Pictures of people who do something with a thing, drawn with Pillow."""
