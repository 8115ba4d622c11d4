"""What runs in a serving pod: one revision from a read-only volume, verified, behind one Triton."""
