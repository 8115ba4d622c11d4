"""The cascade at request time: the small model answers where it is sure enough, a larger one the rest (docs/edge-cascade.md)."""
