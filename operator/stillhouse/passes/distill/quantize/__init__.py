"""Training with rounded numbers: what becomes of the network in INT8 is what it learns to live with."""
