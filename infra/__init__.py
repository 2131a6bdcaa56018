"""What Tollbook runs on: the embedded stack, and what sets it up."""
