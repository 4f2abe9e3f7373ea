"""Rules on bytes, tensors and their names."""
