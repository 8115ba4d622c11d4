"""What a failed gate advises must be possible."""

from __future__ import annotations

from stillhouse.passes.evaluate.gate import advice


def test_more_training_is_advised_only_where_something_was_trained() -> None:
    assert advice(distilled=True).startswith("train longer")
    assert advice(distilled=True, rows=400).startswith("give it more to learn from (400 rows now")
    untrained = advice(distilled=False)
    assert "train longer" not in untrained
    assert "in safetensors can be distilled" in untrained
