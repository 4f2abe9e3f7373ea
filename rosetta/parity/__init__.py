"""What several sides say to the same prompts, token by token: where they part, and whether that is a fault."""
