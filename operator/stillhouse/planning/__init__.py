"""Planning, pure: spec → an ordered list of steps grouped into stages, each with a content hash."""
