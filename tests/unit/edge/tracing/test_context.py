"""Trace contexts by the letter of W3C Trace Context: what is taken, what is dropped, what goes on."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stillhouse.edge.tracing.context import Context, carried, context_of, passed_on
from stillhouse.edge.tracing.spans import Telemetry
from stillhouse.errors import UsageError

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


def of(parent: str, *states: str) -> Context | None:
    return context_of((("x", "1"), ("traceparent", parent), *(("tracestate", each) for each in states)))


def test_a_sound_context_is_read() -> None:
    assert of(PARENT) == Context(TRACE, SPAN, True)
    assert of(f"00-{TRACE}-{SPAN}-00") == of(f"00-{TRACE}-{SPAN}-02") == Context(TRACE, SPAN, False)
    assert of(f"cc-{TRACE}-{SPAN}-03-what-is-to-come") == Context(TRACE, SPAN, True)
    assert of(PARENT, "a=1,, b@c=x y", "d/e=~") == Context(TRACE, SPAN, True, "a=1,b@c=x y,d/e=~")


@pytest.mark.parametrize(
    "parent",
    ["", PARENT.upper(), PARENT + "-x", f"ff-{TRACE}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01",
     f"00-{TRACE[1:]}-{SPAN}-01", f"00-{TRACE}-{SPAN}", f"00-{TRACE}-{SPAN}-1", f"0-{TRACE}-{SPAN}-01", f"00 {TRACE} {SPAN} 01",
     f"00-{TRACE}-{SPAN}-01x", PARENT.replace("4", "٤")],
)  # fmt: skip
def test_a_malformed_one_is_none_and_goes_no_further(parent: str) -> None:
    assert of(parent, "a=1") is None
    assert passed_on((("traceparent", parent), ("tracestate", "a=1"), ("x", "1"))) == (("x", "1"),)


MANY = ",".join(f"k{number}=1" for number in range(33))


@pytest.mark.parametrize("state", ["A=1", "a", "a=", "=1", "a=1=2", "a=\x7f", MANY, "a=" + "x" * 257])
def test_a_malformed_state_is_left_out_and_the_trace_goes_on(state: str) -> None:
    assert of(PARENT, state) == Context(TRACE, SPAN, True)
    assert passed_on((("traceparent", PARENT), ("tracestate", state))) == (("traceparent", PARENT),)


def test_two_parents_are_none() -> None:
    assert context_of((("traceparent", PARENT), ("traceparent", PARENT))) is None


def test_who_takes_no_part_passes_it_on_unchanged() -> None:
    for metadata in ((), (("x", "1"),), (("traceparent", f"01-{TRACE}-{SPAN}-81-more"), ("tracestate", "a=1 , b=2"), ("x", "1"))):
        assert passed_on(metadata) is metadata


NAMES, VALUES = st.sampled_from(["traceparent", "tracestate", "x"]), st.text(max_size=70) | st.binary(max_size=9)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=4))
@example([("traceparent", PARENT), ("tracestate", "a=1")])
def test_whatever_comes_one_sound_context_goes_on_or_none(metadata: list[tuple[str, str | bytes]]) -> None:
    passed = passed_on(tuple(metadata))
    came = context_of(tuple(metadata))
    assert context_of(passed) == came
    own = Context(TRACE, SPAN, False, came.state if came else "")
    assert context_of(carried(tuple(metadata), own)) == own
    assert [each for each in carried(tuple(metadata), own) if each[0] == "x"] == [each for each in metadata if each[0] == "x"]


def test_the_collector_is_named_by_the_setting_or_by_opentelemetrys_variables() -> None:
    assert Telemetry.of_environment({}) is None
    found = Telemetry.of_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/", "OTEL_SERVICE_NAME": "s"}, 0.5)
    assert found is not None and (found.url, found.name, found.sample) == ("http://c:4318/v1/traces", "s", 0.5)
    full = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t/v1/traces"}
    traces = Telemetry.of_environment(full)
    assert traces is not None and traces.url == "http://t/v1/traces"
    assert Telemetry.of_environment({**full, "OTEL_SDK_DISABLED": "true"}) is None
    with pytest.raises(UsageError, match="this is no collector"):
        Telemetry.of_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"})
