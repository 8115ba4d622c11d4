"""The servers of the harness leave nothing behind, however their owner ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast

import psutil
import pytest
from tests.support.kube import control_plane as harness
from tests.support.kube.control_plane import ControlPlane, running_control_plane
from tests.support.kube.process import StartFailed, free_port
from tests.support.kube.workdir import owned_temporary_folder
from tests.support.operator_process import Operator

ROOT = Path(__file__).parents[2]

# A test session in small: owns a control plane, says so, and waits to be killed.
OWNER = """
import json, sys, time
from pathlib import Path
from tests.support.kube.control_plane import running_control_plane
with running_control_plane({name: Path(path) for name, path in json.loads(sys.argv[1]).items()}) as running:
    print(json.dumps({"pids": [running.etcd.pid, running.apiserver.pid], "folder": str(running.folder)}), flush=True)
    time.sleep(600)
"""


@pytest.fixture
def own_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary directory apart from the session's, so that its contents can be counted; also for child processes."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)  # it remembers the first answer
    return folder


def _eventually(holds: Callable[[], bool], seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _has_ended(process: psutil.Process) -> bool:
    """Also true of one that nobody has waited for yet: in a container the first process may be slow or idle at it."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_an_end_in_order_leaves_nothing(binaries: dict[str, Path], own_tmp: Path) -> None:
    with running_control_plane(binaries) as running:
        pids = [running.etcd.pid, running.apiserver.pid]
        assert all(psutil.pid_exists(pid) for pid in pids)
        assert running.ready() is None

    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert list(own_tmp.iterdir()) == []


def test_a_killed_owner_takes_its_servers_along_and_the_next_run_its_folder(binaries: dict[str, Path], own_tmp: Path) -> None:
    arguments = json.dumps({name: str(path) for name, path in binaries.items()})
    with subprocess.Popen([sys.executable, "-c", OWNER, arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        started = json.loads(owner.stdout.readline())
        servers = [psutil.Process(pid) for pid in started["pids"]]
        owner.send_signal(signal.SIGKILL)

    assert _eventually(lambda: all(_has_ended(server) for server in servers)), servers
    assert Path(started["folder"]).is_dir()  # nobody was left to remove it
    with owned_temporary_folder(Path(started["folder"]).name.rpartition("-")[0]) as next_run:
        assert list(own_tmp.iterdir()) == [next_run]


def test_a_living_owners_folder_stays(own_tmp: Path) -> None:
    with owned_temporary_folder("both") as first, owned_temporary_folder("both") as second:
        assert sorted(own_tmp.iterdir()) == sorted([first, second])


def test_a_refused_flag_ends_the_start_with_the_servers_own_words(binaries: dict[str, Path], own_tmp: Path) -> None:
    before = {child.pid for child in psutil.Process().children()}

    with pytest.raises(StartFailed, match="unknown flag: --no-such-flag"), running_control_plane(binaries, ["--no-such-flag"]):
        pytest.fail("it started")

    assert {child.pid for child in psutil.Process().children()} == before
    assert list(own_tmp.iterdir()) == []


class _SaysYes(BaseHTTPRequestHandler):
    """A stranger whose every answer looks like health."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port where somebody else answers every GET with 200."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _SaysYes) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_a_port_taken_in_the_meantime_is_chosen_anew(
    binaries: dict[str, Path], own_tmp: Path, taken_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    choices = iter([taken_port, free_port(), taken_port, free_port()])  # etcd's first and the API server's first are gone
    monkeypatch.setattr(harness, "free_port", lambda: next(choices))

    with running_control_plane(binaries) as running:
        assert running.ready() is None
        assert running.etcd.is_running()

    assert next(choices, None) is None


def test_the_servers_start_in_a_session_of_their_own(control_plane: ControlPlane) -> None:
    # Else Ctrl-C in the terminal would end them before the tests that still use them.
    assert {os.getsid(server.pid) for server in (control_plane.etcd, control_plane.apiserver)}.isdisjoint({os.getsid(0)})


@pytest.mark.parametrize("line", ["Traceback (most recent call last):", '{"message": "no level"}', '{"message": "cut off'])
def test_a_log_line_that_is_no_record_fails_whoever_reads_the_log(line: str, tmp_path: Path) -> None:
    log = tmp_path / "operator.log"
    log.write_text('{"time": "t", "level": "INFO", "message": "fine"}\n')
    operator = Operator(cast("subprocess.Popen[bytes]", None), log, 0, "one")
    assert [each["message"] for each in operator.records()] == ["fine"]
    log.write_text(log.read_text() + line + "\n")
    with pytest.raises(AssertionError, match=r"not JSON|lacks something"):
        operator.records()
