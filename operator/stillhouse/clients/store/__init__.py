"""The content-addressed store: artifacts by digest, receipts by step key. Safe with two processes and after kill -9."""
