"""Rules on the vocabulary, its special tokens and the chat template."""
