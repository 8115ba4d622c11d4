"""What stands before a model: limits, checks of shape, patterns in texts, the audit log."""
