"""Rules on what the tensors hold; they take a walk over all of the file."""
