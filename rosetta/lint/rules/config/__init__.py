"""Rules on what the file says of the model."""
