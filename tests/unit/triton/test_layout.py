"""How the measured part of `serve` reaches rendering, and how it is written into a ModelRevision and read again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stillhouse.api.revision import ServeSettings
from stillhouse.api.serve import Serve
from stillhouse.planning.request import from_record, serve_config, to_record
from stillhouse.triton.layout import serve_settings

SERVES = st.builds(
    lambda **values: {**serve_config(Serve()), **values},
    maxBatchSize=st.integers(1, 1024),
    maxQueueDelay=st.floats(0, 10),
    queueSize=st.integers(0, 1000),
    queueTimeout=st.none() | st.floats(0.001, 10),
    instances=st.none() | st.integers(1, 256),
    threads=st.none() | st.integers(1, 256),
    responseCache=st.booleans(),
    cpus=st.none() | st.floats(0.001, 64),
    memory=st.none() | st.integers(1, 1 << 40),
)


def test_units_of_serve_reach_rendering() -> None:
    found = serve_settings(
        {
            "maxBatchSize": 16, "maxQueueDelay": 0.0005, "queueSize": 7, "queueTimeout": 1.5, "instances": 2, "threads": None,
            "responseCache": True, "cpus": 1.0, "memory": None,
        }
    )  # fmt: skip
    assert (found.max_batch_size, found.max_queue_delay_us, found.max_queue_size) == (16, 500, 7)
    assert (found.queue_timeout_us, found.instances, found.threads, found.response_cache) == (1_500_000, 2, None, True)


@given(SERVES)
def test_settings_come_out_of_a_record_as_they_went_in(serve: dict[str, object]) -> None:
    record = to_record(serve)
    taken = ServeSettings.model_validate(record, by_alias=True, by_name=False)
    assert taken.model_dump(by_alias=True, exclude_none=True).items() >= record.items(), "the API has a field for each"
    assert from_record(record) == serve


def test_a_record_without_settings_is_a_spec_without_them() -> None:
    assert from_record({}) == serve_config(Serve())
