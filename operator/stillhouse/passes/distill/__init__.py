"""Distillation: the teacher's outputs, the student, its training."""
