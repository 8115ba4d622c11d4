"""The Open Inference Protocol: its messages, its tensors, its REST twin."""
