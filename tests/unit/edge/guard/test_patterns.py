"""Patterns in texts."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.edge.guard.patterns import PLACES, Patterns, Rule, Screened
from stillhouse.edge.guard.refusals import Refusal
from stillhouse.errors import MissingPackages, SpecError
from stillhouse.extras import install


def masked(name: str, text: str) -> str:
    found = Patterns([Rule(name, "mask")]).screen(text)
    assert isinstance(found, Screened)
    assert bool(found.masked) == (found.text != text)
    return found.text


@pytest.mark.parametrize(
    ("name", "text", "left"),
    [
        ("email", "write to jane.doe+x@mail.example.co.uk, please", "write to [email], please"),
        ("email", "élise@exämple.fr", "[email]"),
        ("email", "a @ b, user@host, @home", "a @ b, user@host, @home"),
        ("card", "card 4111 1111 1111 1111.", "card [card]."),
        ("card", "4111-1111-1111-1111", "[card]"),
        ("card", "4111111111111111", "[card]"),
        ("card", "3782 822463 10005", "[card]"),
        ("card", "4111 1111 1111 1112", "4111 1111 1111 1112"),
        ("card", "2235 4111 1111 1111 1111", "2235 [card]"),
        ("card", "41111111111111111111111", "41111111111111111111111"),
        ("card", "on 2019-2020", "on 2019-2020"),
        ("iban", "DE89 3704 0044 0532 0130 00 AND MORE", "[iban] AND MORE"),
        ("iban", "gb82west12345698765432", "[iban]"),
        ("iban", "GB82WEST12345698765433", "GB82WEST12345698765433"),
        ("iban", "XX89370400440532013000", "XX89370400440532013000"),
        ("iban", "DE893704004405320130001", "DE893704004405320130001"),
        ("phone", "call +49 (0)30 123456 today", "call [phone] today"),
        ("phone", "030/1234567", "[phone]"),
        ("phone", "(415) 555-2671", "[phone]"),
        ("phone", "in 2019 we sold 12345 of them", "in 2019 we sold 12345 of them"),
    ],
)
def test_ready_made_patterns(name: str, text: str, left: str) -> None:
    assert masked(name, text) == left


def test_the_length_of_what_is_masked_is_not_in_the_mask() -> None:
    patterns = Patterns([Rule("secret", "mask", "s+")])
    one, two = patterns.screen("xsy"), patterns.screen("xsssssy")
    assert one == two == Screened("x[secret]y", {"secret": 1})


def test_every_rule_sees_the_text_as_it_came() -> None:
    patterns = Patterns([Rule("digits", "mask", "[0-9]+"), Rule("bad", "refuse", "id 7")])
    assert isinstance(patterns.screen("id 7"), Refusal), "no mask hides it"
    patterns = Patterns([Rule("one", "mask", "abc"), Rule("two", "mask", "bcd"), Rule("three", "mask", "[[]")])
    found = patterns.screen("xabcdx abc")
    assert found == Screened("x[one]x [one]", {"one": 2, "two": 1})


def test_a_refusal_tells_the_rule_and_not_what_it_found() -> None:
    refusal = Patterns([Rule("card", "refuse")]).screen("pay 4111 1111 1111 1111", "inputs[0][0]")
    assert isinstance(refusal, Refusal)
    assert refusal.problem.field == "inputs[0][0]"
    assert "'card'" in str(refusal)
    assert "4111" not in str(refusal)


def test_time_is_linear_where_backtracking_is_not() -> None:
    """With the standard library's engine neither of these ends within a lifetime."""
    patterns = Patterns(
        [Rule("one", "refuse", "(a+)+b"), Rule("two", "refuse", "(a|a)*c"), Rule("three", "mask", "(.*)(.*)(.*)x")]
    )
    assert patterns.screen("a" * 50_000) == Screened("a" * 50_000, {})


def test_an_expression_that_reads_the_rest_each_time_is_stopped() -> None:
    refusal = Patterns([Rule("rest", "mask", "a.*b|a")]).screen("a" * 5000)
    assert isinstance(refusal, Refusal)
    assert refusal.problem.found == f"more than {PLACES}"


@pytest.mark.parametrize(
    ("rules", "field"),
    [
        ([Rule("x", "mask", "(")], "guard.patterns[0].expression"),
        ([Rule("x", "mask", r"(a)\1")], "guard.patterns[0].expression"),
        ([Rule("x", "mask", "a*")], "guard.patterns[0].expression"),
        ([Rule("x", "mask", "a" * 1001)], "guard.patterns[0].expression"),
        ([Rule("x", "mask", "((a{1,1000}){1,1000}){1,1000}")], "guard.patterns[0].expression"),
        ([Rule("email", "mask"), Rule("emial", "mask")], "guard.patterns[1].name"),
        ([Rule("x", "mask", "a"), Rule("x", "refuse", "b")], "guard.patterns[1].name"),
        ([Rule("", "mask", "a")], "guard.patterns[0].name"),
    ],
)
def test_rules_that_are_none(rules: list[Rule], field: str) -> None:
    with pytest.raises(SpecError) as told:
        Patterns(rules, "guard.patterns")
    assert told.value.problem.field == field


ALL = Patterns([Rule(name, "mask") for name in ("email", "card", "iban", "phone")])
PIECES = st.sampled_from(
    ["4111 1111 ", "1111", "DE89 ", "3704 0044 0532 0130 00", "a@b.", "com", "+49 ", "é", "\ud800", "-", " ", "\x00"]
)


@given(st.one_of(st.text(max_size=80), st.lists(PIECES, max_size=12).map("".join)))
def test_whatever_comes_is_screened_and_what_was_left_does_not_fit(text: str) -> None:
    found = ALL.screen(text)
    assert isinstance(found, Screened)
    if not found.masked:
        assert found.text == text
    else:
        assert sum(found.text.count(f"[{name}]") for name in found.masked) >= 1


def test_without_re2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "re2", None)
    with pytest.raises(MissingPackages) as told:
        Patterns([Rule("email", "mask")])
    assert told.value.problem.fix == install("edge")
