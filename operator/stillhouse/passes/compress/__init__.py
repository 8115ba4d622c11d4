"""Precision: INT8, INT4 and mixtures of them, and which operators bear it worst."""
