"""The search for a student's shape: short trainings, measured; the front of what is worth having."""
