"""Passes that bring a model or data into the store: whatever comes from outside is checked here, once."""
