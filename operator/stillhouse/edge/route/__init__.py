"""Where a request goes: backends, their weights, and those that are left alone for a while."""
