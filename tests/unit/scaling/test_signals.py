"""From counters to signals and to a number of replicas: plain arithmetic on plain data."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.triton_text import triton_text

from stillhouse.errors import ServerError
from stillhouse.scaling.counters import Sample, read
from stillhouse.scaling.signals import STALE_S, WINDOW_S, History, Signals, signals
from stillhouse.scaling.wanted import Aim, Room, cpu_use, wanted

START = Sample(at=0.0, pending=0.0, ended=0.0, computed=0.0, executions=0.0, queue_s=0.0, compute_s=0.0)


def series(*, rate: float, service_s: float, batch: float = 1.0, pending: float = 0.0, seconds: int = 10) -> list[Sample]:
    """Return samples a second apart of a server that answers `rate` requests a second in batches of `batch`.

    `service_s` is what a request costs an instance; each of a batch's requests is counted with the whole batch's time.
    """
    return [
        Sample(
            at=float(second),
            pending=pending,
            ended=rate * second,
            computed=rate * second,
            executions=rate * second / batch,
            queue_s=0.004 * rate * second,
            compute_s=service_s * batch * rate * second,
        )
        for second in range(seconds + 1)
    ]


def test_tritons_text_is_read() -> None:
    sample = read(triton_text("m", requests=10, executions=4, pending=3, queue_us=2e6, compute_us=5e6, failures=2), "m", 7.0)
    assert sample == Sample(at=7.0, pending=3, ended=12, computed=10, executions=4, queue_s=2.0, compute_s=5.0)


def test_answers_from_the_cache_cost_nothing() -> None:
    text = triton_text("m", requests=10, executions=2) + 'nv_cache_num_hits_per_model{model="m",version="1"} 6\n'
    assert read(text, "m", 0.0).computed == 4


def test_another_models_figures_are_not_taken() -> None:
    text = triton_text("m", requests=10) + triton_text("n", requests=90)
    assert read(text, "m", 0.0).ended == 10


def test_the_upper_half_of_a_model_is_its_own_work() -> None:
    """All of its clients ask that one where it is cut."""
    text = triton_text("m", requests=1, queue_us=1e6) + triton_text("m_upper", requests=10, pending=4, queue_us=2e6)
    sample = read(text, "m", 0.0)
    assert (sample.ended, sample.pending, sample.queue_s) == (11, 4, 3.0)


@pytest.mark.parametrize(
    "text",
    ["", "<html>", triton_text("other"), triton_text("m").replace("nv_inference_exec_count{", "nv_else{"), "nv_inference_count{"],
)
def test_what_is_missing_is_an_error_and_no_zero(text: str) -> None:
    with pytest.raises(ServerError):
        read(text, "m", 0.0)


@pytest.mark.parametrize("batch", [1.0, 8.0])
def test_a_batchs_time_counts_once(batch: float) -> None:
    found = signals([series(rate=100, service_s=0.005, batch=batch)], 1.0, 10.0)
    assert found is not None
    assert found.arrival_rate == pytest.approx(100)
    assert found.service_s == pytest.approx(0.005)
    assert found.busy == pytest.approx(0.5)
    assert found.use == pytest.approx(0.5)
    assert found.queue_s == pytest.approx(0.004)
    assert found.pending == 0


def test_what_waits_more_than_before_has_come_in_too() -> None:
    first, last = START, replace(START, at=10.0, ended=500, computed=500, executions=500, compute_s=10.0, pending=200)
    found = signals([[first, last]], 1.0, 10.0)
    assert found is not None
    assert found.arrival_rate == pytest.approx(70)
    assert found.pending == 200
    assert found.use == 1.0


def test_pods_add_up() -> None:
    found = signals([series(rate=100, service_s=0.005, pending=2), series(rate=60, service_s=0.005, pending=1)], 2.0, 10.0)
    assert found is not None
    assert (found.pods, found.pending) == (2, 3)
    assert found.arrival_rate == pytest.approx(160)
    assert found.busy == pytest.approx(0.8)
    assert found.use == pytest.approx(0.2)


def test_a_pod_that_is_not_heard_is_taken_to_be_like_the_others() -> None:
    both = series(rate=100, service_s=0.005)
    found = signals([both, both, []], 1.0, 10.0)
    assert found is not None
    assert found.arrival_rate == pytest.approx(300)
    assert found.busy == pytest.approx(1.5)
    assert found.use == pytest.approx(0.5)


@pytest.mark.parametrize("unheard", [1, 5])
def test_too_few_pods_give_no_value(unheard: int) -> None:
    heard = [series(rate=100, service_s=0.005)]
    assert signals([*heard, *[[]] * (unheard + 1)], 1.0, 10.0) is None


def test_nothing_stale_and_nobody_at_all_gives_no_value() -> None:
    samples = series(rate=100, service_s=0.005)
    assert signals([samples], 1.0, 10.0 + STALE_S) is not None
    assert signals([samples], 1.0, 10.1 + STALE_S) is None
    assert signals([], 1.0, 10.0) is None
    assert signals([[]], 1.0, 10.0) is None


def test_a_pod_that_was_heard_once_waits_and_has_no_rate() -> None:
    young = [replace(START, at=10.0, pending=4.0, ended=2, computed=2, executions=2, compute_s=0.1)]
    found = signals([series(rate=100, service_s=0.005), young], 1.0, 10.0)
    assert found is not None
    assert found.arrival_rate == pytest.approx(100)
    assert found.pending == 4


@pytest.mark.parametrize(("once", "known"), [(0, True), (1, True), (2, False), (3, False)])
def test_a_rate_needs_two_samples_of_half_of_the_pods(once: int, known: bool) -> None:
    """Else a metrics API that has just begun to ask would say that nothing comes in, and every pod but one would go."""
    pods = [series(rate=50, service_s=0.01)] * (3 - once) + [series(rate=50, service_s=0.01)[-1:]] * once
    assert (signals(pods, 1.0, 10.0) is not None) is known


def test_where_nothing_ran_lately_a_requests_cost_is_that_of_the_whole_life() -> None:
    idle = replace(START, at=0.0, ended=100, computed=100, executions=50, compute_s=2.0)
    found = signals([[idle, replace(idle, at=10.0)]], 1.0, 10.0)
    assert found is not None
    assert found.service_s == pytest.approx(0.01)
    assert found.arrival_rate == 0


def test_a_history_is_as_long_as_its_window_and_begins_anew_with_the_server() -> None:
    history = History()
    for sample in series(rate=10, service_s=0.01, seconds=60):
        history.add(sample)
    assert history.samples[-1].at - history.samples[0].at == WINDOW_S
    history.add(replace(START, at=61.0))
    assert [each.at for each in history.samples] == [61.0]


def told(**parts: float) -> Signals:
    known = {"pods": 1, "pending": 0.0, "queue_s": 0.0, "arrival_rate": 0.0, "busy": 0.0, "use": 0.0, "service_s": 0.01}
    return Signals(**{**known, **parts})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("parts", "instances", "replicas"),
    [
        ({}, 1, 0.0),
        ({"arrival_rate": 70.0}, 1, 1.0),
        ({"arrival_rate": 140.0}, 1, 2.0),
        ({"arrival_rate": 140.0}, 2, 1.0),
        ({"pending": 350.0}, 1, 1.0),
        ({"arrival_rate": 70.0, "pending": 350.0}, 1, 2.0),
        ({"arrival_rate": 70.0, "pods": 9}, 1, 1.0),  # how many there are is no part of it
    ],
)
def test_wanted(parts: dict[str, float], instances: float, replicas: float) -> None:
    assert wanted(told(**parts), Room(instances), Aim(use=0.7, drain_s=5.0)) == pytest.approx(replicas)


def test_who_does_not_know_what_a_request_costs_says_nothing_while_some_wait() -> None:
    assert wanted(told(service_s=None, pending=3.0), Room(1)) is None  # type: ignore[arg-type]
    assert wanted(told(service_s=None), Room(1)) == 0.0  # type: ignore[arg-type]


def test_cpu_that_is_used_up_wants_more_pods_where_the_instances_look_half_idle() -> None:
    """A front end that costs as much as the model: its server is at its limit, and what waits for it is not counted."""
    full = told(pods=2, arrival_rate=50.0, service_s=0.008, busy=0.4, use=0.2, cpu=0.4)
    assert wanted(full, Room(1)) == pytest.approx(50 * 0.008 / 0.7)
    assert wanted(full, Room(1, cpus=0.2)) == pytest.approx(0.4 / 0.2 / 0.7)
    assert cpu_use(full, Room(1, cpus=0.2)) == pytest.approx(1.0)
    assert wanted(full, Room(1, cpus=2.0)) == pytest.approx(50 * 0.008 / 0.7), "the instances are what is short"


def test_pods_that_do_not_tell_their_cpu_time_scale_by_their_instances() -> None:
    silent = told(arrival_rate=70.0, cpu=None)  # type: ignore[arg-type]
    assert wanted(silent, Room(1, cpus=0.1), Aim(use=0.7)) == pytest.approx(1.0)
    assert cpu_use(silent, Room(1, cpus=0.1)) is None
    assert cpu_use(told(cpu=0.1), Room(1)) is None


def test_cpu_time_is_a_rate_of_the_pods_that_tell() -> None:
    silent = series(rate=100, service_s=0.005)
    telling = [replace(each, cpu_s=5.0 + 0.3 * each.at) for each in silent]
    one, both = signals([telling, silent], 1.0, 10.0), signals([telling, telling], 1.0, 10.0)
    assert one is not None and both is not None
    assert one.cpu == pytest.approx(0.6) and both.cpu == pytest.approx(0.6)
    none = signals([silent], 1.0, 10.0)
    assert none is not None and none.cpu is None


def test_cpu_time_that_went_back_is_that_of_a_server_that_began_anew() -> None:
    history = History()
    for at, cpu in ((0.0, 9.0), (1.0, 9.5), (2.0, 1.0)):
        history.add(replace(START, at=at, cpu_s=cpu))
    assert [each.at for each in history.samples] == [2.0]


def test_a_pods_cpu_time_is_read_beside_tritons_counters() -> None:
    text = (
        triton_text("m", requests=1)
        + '# TYPE stillhouse_cpu_seconds_total counter\nstillhouse_cpu_seconds_total{model="m"} 3.5\n'
    )
    assert read(text, "m", 0.0).cpu_s == 3.5
    assert read(triton_text("m", requests=1), "m", 0.0).cpu_s is None
