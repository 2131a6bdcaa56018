"""What Tollbook costs and how fast it is, measured on a stack of its own, beside what it should."""
