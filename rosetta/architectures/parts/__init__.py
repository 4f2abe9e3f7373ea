"""What architectures are put together from: the record of one, builders of stages, readings of tensors, settings."""
