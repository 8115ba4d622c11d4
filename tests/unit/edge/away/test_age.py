"""The queue's time: within a boot, over a reboot, and over clocks that jump by years."""

from __future__ import annotations

import uuid

import pytest
from tests.support.edge_clocks import HandClocks

from stillhouse.edge.away.age import Age, Mark, SystemClocks
from stillhouse.edge.away.keys import check_key, new_key
from stillhouse.edge.status import Refused

YEARS = 30 * 365 * 86400.0


def test_it_goes_on_with_the_machine_whatever_the_wall_clock_says() -> None:
    clocks = HandClocks()
    age = Age(clocks, None, most_away=100.0)
    clocks.pass_time(10.0)
    clocks.wall_time += YEARS
    assert age.now() == 10.0
    clocks.wall_time -= 2 * YEARS
    clocks.pass_time(5.0)
    assert age.now() == 15.0


def test_within_a_boot_a_restart_is_exact() -> None:
    clocks = HandClocks()
    mark = Age(clocks, None, 100.0).mark()
    clocks.wall_time -= YEARS
    clocks.pass_time(5000.0)
    assert Age(clocks, mark, most_away=100.0).now() == 5000.0


@pytest.mark.parametrize(("passed", "counted"), [(60.0, 60.0), (YEARS, 100.0), (-YEARS, 0.0)])
def test_over_a_reboot_the_wall_clock_counts_within_bounds(passed: float, counted: float) -> None:
    clocks = HandClocks()
    mark = Age(clocks, Mark(1000.0, clocks.running(), clocks.wall(), clocks.boot), 100.0).mark()
    clocks.reboot(wall_passed=passed)
    assert Age(clocks, mark, most_away=100.0).now() == pytest.approx(1000.0 + counted)


def test_where_boots_have_no_names_each_start_is_a_reboot() -> None:
    clocks = HandClocks(boot="")
    mark = Age(clocks, None, 100.0).mark()
    clocks.pass_time(5000.0)
    assert Age(clocks, mark, most_away=100.0).now() == 100.0


def test_this_machines_clocks_go_forward() -> None:
    clocks = SystemClocks()
    first = clocks.running()
    assert clocks.running() >= first > 0
    assert clocks.boot == SystemClocks().boot


def test_keys_are_uuids_of_version_seven_that_begin_with_the_time() -> None:
    keys = [uuid.UUID(new_key(1_700_000_000.123 + each)) for each in range(100)]
    assert {key.version for key in keys} == {7}
    assert {key.variant for key in keys} == {uuid.RFC_4122}
    assert keys[0].int >> 80 == 1_700_000_000_123
    assert keys == sorted(keys)
    assert len({new_key(5.0) for _ in range(1000)}) == 1000
    assert uuid.UUID(new_key(-5.0)).int >> 80 == 0


@pytest.mark.parametrize("key", ["", "a b", "ä", "x" * 129, "a\n", "\x00"])
def test_what_is_no_key_is_refused(key: str) -> None:
    with pytest.raises(Refused, match="INVALID_ARGUMENT"):
        check_key(key)
