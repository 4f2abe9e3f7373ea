"""The operations of the forward pass, one file a family: what each computes, reads, and may be off by."""
