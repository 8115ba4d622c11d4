"""Pruning while a student learns: what can be taken out, how important it is, when it goes, and the smaller network."""
