"""Gateways that ask each other are found, whatever stands in their specs."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stillhouse.planning.circles import LARGER_MODEL, STEPS_MODEL, asked_of, circle, field_of, told

STEPS: dict[str, Any] = {"edge": {"preprocess": {"model": "b", "steps": []}}}
CASCADE: dict[str, Any] = {"edge": {"cascade": {"larger": {"model": "c"}}}}


def test_whom_a_gateway_asks_by_name() -> None:
    assert (asked_of(STEPS), field_of(STEPS)) == ("b", STEPS_MODEL)
    assert (asked_of(CASCADE), field_of(CASCADE)) == ("c", LARGER_MODEL)
    assert asked_of({"edge": {"preprocess": {"model": "b", "address": "grpcs://b:443"}}}) == ""
    for odd in (None, {}, [], {"edge": None}, {"edge": {"preprocess": 3}}, {"edge": {"preprocess": {"model": ["b"]}}}):
        assert asked_of(odd) == ""


def test_a_circle_is_named_from_where_one_stands() -> None:
    asked = {"a": "b", "b": "c", "c": "a", "d": "a", "e": "e", "f": "g"}
    found = circle("b", lambda name: asked.get(name, ""))
    assert found == ("b", "c", "a", "b")
    assert told(found) == "b asks c, c asks a, a asks b"
    assert circle("e", lambda name: asked.get(name, "")) == ("e", "e")
    for outside in ("d", "f", "g"):
        assert circle(outside, lambda name: asked.get(name, "")) == (), "who only leads into one is no part of it"


@given(st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("abcdef")))
def test_following_ends_and_every_member_sees_the_same_circle(asked: dict[str, str]) -> None:
    for name in asked:
        found = circle(name, lambda each: asked.get(each, ""))
        for member in found:
            assert set(circle(member, lambda each: asked.get(each, ""))) == set(found)
