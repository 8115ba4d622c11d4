"""A server that runs and does not do its work: seen by `still status`, replaced by `still up`."""

from __future__ import annotations

import signal

import psutil
from tests.support.cli import Project
from tests.support.cli_servers import again, server, up, wait_until


def stub(project: Project) -> psutil.Process:
    """Return the backend's process."""
    children = psutil.Process(server(project)["pid"]).children(recursive=True)
    return next(each for each in children if "stub" in each.name())


def test_a_backend_that_died_is_seen_and_replaced_on_the_same_port(built: Project) -> None:
    up(built)
    before = server(built)
    stub(built).kill()
    wait_until(lambda: server(built)["health"] != "ready")
    assert "backend processes" in " ".join(server(built)["details"])
    ready = next(each for each in built.status()["conditions"] if each["type"] == "Ready")
    assert ready["status"] == "False"
    told = again(built)
    assert "does not do its work" in told
    assert "already serving" not in told
    after = server(built)
    assert after["health"] == "ready"
    assert (after["address"], after["pid"] != before["pid"]) == (before["address"], True)
    assert built.data("infer", "tiny", "a b c")


def test_a_server_that_hangs_is_replaced(built: Project) -> None:
    up(built)
    before = server(built)["pid"]
    process = psutil.Process(before)
    process.suspend()
    try:
        assert "does not do its work" in again(built)
    finally:
        if process.is_running():
            process.resume()
    assert server(built)["pid"] != before
    assert built.data("infer", "tiny", "a b c")


def test_a_new_version_replaces_one_whose_backend_died(built: Project) -> None:
    up(built)
    stub(built).kill()
    built.edit(serve={"batching": {"maxBatchSize": 16}, "resources": {"limits": {"cpu": "1"}}})
    again(built)
    assert server(built)["health"] == "ready"


def test_who_waits_in_the_foreground_is_told_and_leaves_nothing(built: Project) -> None:
    started = built.start("up", str(built.file))
    started.wait_for("Ctrl-C stops it")
    pid = server(built)["pid"]
    stub(built).send_signal(signal.SIGKILL)
    assert started.end() == 5
    assert "backend processes" in started.text
    wait_until(lambda: not psutil.pid_exists(pid))
