"""What counts as the same: every field that we want has its value."""

from __future__ import annotations

from typing import Any

import pytest

from stillhouse.reconcile.same import differences, marked, same
from stillhouse.resources.labels import APPLIED


@pytest.mark.parametrize(
    ("wanted", "live", "where"),
    [
        ({"a": 1}, {"a": 1, "default": 2}, []),
        ({"a": 1}, {"a": 2}, ["/a"]),
        ({"a": {"b": 1}}, {}, ["/a"]),
        ({"a": {"b/c": 1}}, {"a": {"b/c": 2}}, ["/a/b~1c"]),
        ({"a": [{"x": 1}]}, {"a": [{"x": 1, "default": True}]}, []),
        ({"a": [{"x": 1}]}, {"a": [{"x": 1}, {"y": 2}]}, ["/a"]),
        ({"a": [{"x": 1}, {"x": 2}]}, {"a": [{"x": 1}, {"x": 3}]}, ["/a/1/x"]),
        ({"a": {}}, {}, []),
        ({"a": []}, {}, []),
        ({"a": []}, {"a": [1]}, ["/a"]),
        ({"a": False, "b": 0, "c": ""}, {}, []),
        ({"a": True}, {}, ["/a"]),
        ({"a": True}, {"a": 1}, ["/a"]),
        ({"selector": {"x": "1"}}, {"selector": {"x": "1", "y": "2"}}, ["/selector"]),
        ({"s": {"podSelector": {"matchLabels": {"x": "1"}}}}, {"s": {"podSelector": {"matchLabels": {"x": "1", "y": "2"}}}},
         ["/s/podSelector"]),
        ({"labels": {"x": "1"}}, {"labels": {"x": "1", "theirs": "2"}}, []),
    ],
)  # fmt: skip
def test_differences(wanted: Any, live: Any, where: list[str]) -> None:
    assert [path for path, _ in differences(wanted, live)] == where
    assert same(wanted, live) is not bool(where)


def test_a_field_that_is_no_longer_wanted_shows() -> None:
    before = {"metadata": {"name": "x", "annotations": {"own": "1"}}, "spec": {"a": 1, "b": 2}}
    live = marked(before)
    assert live["metadata"]["annotations"]["own"] == "1"
    assert same(marked(before), live)
    after = {**before, "spec": {"a": 1}}
    assert same(after, live)
    assert [path for path, _ in differences(marked(after), live)] == [f"/metadata/annotations/{APPLIED.replace('/', '~1')}"]
