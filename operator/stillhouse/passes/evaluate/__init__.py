"""Measuring: the teacher's reference, the gate, the retrieval index."""
