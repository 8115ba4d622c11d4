"""Whether the small model still answers as the larger one does, measured on today's requests."""
