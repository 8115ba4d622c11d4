"""The one error that a benchmark stops with; its text is for the person who started it."""

from __future__ import annotations


class BenchError(Exception):
    """A measurement that cannot be made or must not be believed; says what was found and what to do."""
