"""What one file holds, without running it: config, tokenizer, tensors and their values."""
