"""What the operator's process consists of."""
