"""Who ends whom: commands in the foreground, their servers, those that come after them, and kills at bad moments."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest
from tests.support.cli import Project
from tests.support.cli_servers import gone, server, servers, up, wait_until


def test_two_at_once_are_one_server(plain: Project) -> None:
    both = [plain.start("up", "--port", "0", str(plain.file)), plain.start("up", str(plain.file))]
    wait_until(lambda: all("serving" in each.text for each in both))
    # Which of the two came first is the scheduler's choice; exactly one waited.
    (other,) = [each for each in both if "is building or starting tiny; waiting for it" in each.text]
    assert "how far it is: still status tiny" in other.text
    owner = next(each for each in both if each is not other)
    if "--port" in other.process.args:  # type: ignore[operator]
        # It asked for a port of its own: the server moved there, and the first gave way.
        assert owner.end() == 0
        owner = other
    else:
        assert other.end() == 0
        assert "already serving" in other.text
        assert f"belongs to process {owner.process.pid}" in other.text
    assert len(servers(plain)) == 1
    owner.send(signal.SIGINT)
    assert owner.end() == 130
    gone(plain)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_foreground_server_ends_with_its_command(plain: Project, number: signal.Signals) -> None:
    started = plain.start("up", "--port", "0", str(plain.file))
    started.wait_for("Ctrl-C stops it")
    assert len(servers(plain)) == 1
    started.send(number)
    assert started.end() == 130
    assert "stopping tiny" in started.text
    assert "Traceback" not in started.text
    gone(plain)
    assert plain.status()["server"] is None


@pytest.mark.parametrize(("outlet", "number"), [("pipe", signal.SIGINT), ("pipe", signal.SIGHUP), ("terminal", signal.SIGHUP)])
def test_a_foreground_server_ends_also_when_nobody_reads_what_its_command_says(
    plain: Project, outlet: str, number: signal.Signals
) -> None:
    """`still up FILE 2>&1 | tee log`: tee dies of the same Ctrl-C, and first. A closed terminal takes no words either."""
    ours, theirs = os.pipe() if outlet == "pipe" else os.openpty()
    process = still_saying_to(theirs, plain, "up", "--port", "0", str(plain.file))
    os.close(theirs)
    try:
        read_until(ours, b"Ctrl-C stops it")
        assert len(servers(plain)) == 1
    finally:
        os.close(ours)
    process.send_signal(number)
    process.send_signal(number)  # as a terminal that closes does: once by the kernel, once by the shell
    assert process.wait(60) == 130
    gone(plain)
    assert plain.status()["server"] is None


def test_a_server_is_not_left_behind_by_a_command_whose_reader_has_gone(plain: Project) -> None:
    """The reader was gone before the command could say that it serves."""
    ours, theirs = os.pipe()
    process = still_saying_to(theirs, plain, "up", "--port", "0", str(plain.file))
    os.close(theirs)
    try:
        read_until(ours, b"starting the server")
    finally:
        os.close(ours)
    process.wait(60)
    gone(plain)


def still_saying_to(stderr: int, project: Project, *arguments: str) -> subprocess.Popen[bytes]:
    line = [sys.executable, "-m", "stillhouse.entrypoints.cli", *arguments]
    return subprocess.Popen(
        line, cwd=project.folder, env=project.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=stderr, start_new_session=True,
    )  # fmt: skip


def read_until(handle: int, words: bytes) -> None:
    text = b""
    while words not in text:
        more = os.read(handle, 4096)
        assert more, text
        text += more


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_foreground_command_leaves_running_what_was_detached(plain: Project, number: signal.Signals) -> None:
    up(plain)
    first = server(plain)
    started = plain.start("up", str(plain.file))
    started.wait_for("started with --detach")
    assert "already serving" in started.text
    assert "Ctrl-C leaves it running, still down tiny stops it" in started.text
    assert "Ctrl-C stops it" not in started.text
    started.send(number)
    assert started.end() == 130
    assert "tiny goes on serving" in started.text
    assert "Traceback" not in started.text
    assert {key: server(plain)[key] for key in ("pid", "supervisor", "health")} == {
        "pid": first["pid"], "supervisor": 0, "health": "ready",
    }  # fmt: skip

    # Somebody else's `down` ends the waiting; and a version that this command put in place is its own.
    again_there = plain.start("up", str(plain.file))
    again_there.wait_for("started with --detach")
    plain.edit(serve={"batching": {"maxBatchSize": 4}})
    mine = plain.start("up", str(plain.file))
    mine.wait_for("Ctrl-C stops it")
    assert again_there.end() == 0
    assert "another process now serves" in again_there.text
    assert "replaces the server that --detach left running, but ends with this command" in mine.text
    assert server(plain)["supervisor"] == mine.process.pid
    mine.send(number)
    assert mine.end() == 130
    gone(plain)


def test_a_command_that_was_killed_leaves_a_server_that_can_be_taken_on_or_stopped(plain: Project) -> None:
    started = plain.start("up", "--port", "0", str(plain.file))
    started.wait_for("Ctrl-C stops it")
    started.send(signal.SIGKILL)
    started.end()
    left = server(plain)
    assert left["health"] == "ready"
    assert f"(process {started.process.pid}) has gone; stop it with: still down tiny" in plain.still("status").stdout
    second = plain.start("up", str(plain.file))
    second.wait_for("Ctrl-C stops it")
    assert "already serving" in second.text
    assert server(plain)["pid"] == left["pid"]
    assert server(plain)["supervisor"] == second.process.pid
    second.send(signal.SIGKILL)
    second.end()
    assert plain.still("down", "tiny").stdout == "tiny: stopped\n"
    gone(plain)


@pytest.mark.parametrize("way_out", ["down", "up"])
def test_a_server_whose_command_was_killed_while_it_started_is_found(plain: Project, way_out: str) -> None:
    started = plain.start("up", "--port", "0", str(plain.file))
    started.wait_for("starting the server")
    wait_until(lambda: bool(servers(plain)))
    started.send(signal.SIGKILL)
    started.end()
    orphan = servers(plain)
    assert orphan
    if way_out == "up":
        up(plain)
        assert server(plain)["pid"] not in orphan
        assert servers(plain) == [server(plain)["pid"]]
    plain.still("down", "tiny")
    gone(plain)


def test_a_server_that_dies_ends_its_command_with_the_log(plain: Project) -> None:
    started = plain.start("up", "--port", "0", str(plain.file))
    started.wait_for("Ctrl-C stops it")
    psutil.Process(server(plain)["pid"]).kill()
    assert started.end() == 5
    assert "the server of tiny is not running any more" in started.text
    assert "SIGKILL" in started.text
    assert "still logs tiny" in started.text
    log = plain.still("logs", "tiny").stdout.splitlines()
    assert any(line.strip() and line.strip() in started.text for line in log[-20:])
    assert "not being served" in plain.still("infer", "tiny", "text", code=2).stderr
    up(plain)
    assert server(plain)["health"] == "ready"


def test_a_successor_ends_the_command_before_it(plain: Project) -> None:
    first = plain.start("up", "--port", "0", str(plain.file))
    first.wait_for("Ctrl-C stops it")
    plain.edit(serve={"batching": {"maxBatchSize": 4}})
    second = plain.start("up", str(plain.file))
    second.wait_for("Ctrl-C stops it")
    assert first.end() == 0
    assert "another process now serves" in first.text
    assert server(plain)["supervisor"] == second.process.pid
    second.send(signal.SIGINT)
    assert second.end() == 130
    gone(plain)


def test_a_hand_over_that_is_interrupted_leaves_the_former_server(plain: Project) -> None:
    up(plain)
    before = servers(plain)
    plain.edit(serve={"batching": {"maxBatchSize": 4}})
    second = plain.start("up", str(plain.file))
    second.wait_for("starting the server beside")
    second.send(signal.SIGINT)
    assert second.end() == 130
    assert servers(plain) == before
    assert plain.data("infer", "tiny", "--vector", "read")
    plain.still("down", "tiny")
    gone(plain)


def test_down_ends_a_foreground_command(plain: Project) -> None:
    started = plain.start("up", "--port", "0", str(plain.file))
    started.wait_for("Ctrl-C stops it")
    plain.still("down", "tiny")
    assert started.end() == 0
    assert "tiny: stopped" in started.text
    gone(plain)
