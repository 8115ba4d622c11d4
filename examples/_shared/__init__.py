"""What the examples' data builders share: extraction of docstrings, near-duplicates, splits, writing."""
