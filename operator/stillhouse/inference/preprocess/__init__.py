"""Declared steps from what a client sends to what a model eats. The edge and the Triton backend run the same code."""
