"""Many comparisons from one manifest: pairs × prompts, one child process and one report each, and a matrix of them."""
