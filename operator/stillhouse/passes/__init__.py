"""The work: one file a pass, and the runner that owns time, cache, locks, receipts and progress."""
