"""What happens around the model: tokenising, length buckets, pre- and post-processing.

Used alike by the Triton backend, the in-process baseline and the edge, so that they give the same numbers.
"""
