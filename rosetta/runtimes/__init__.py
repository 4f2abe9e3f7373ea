"""What computes, or has computed, the stages of a model."""
