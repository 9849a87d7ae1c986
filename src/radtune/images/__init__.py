"""Image bytes to the picture that the model sees."""
