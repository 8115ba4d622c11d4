"""What can be said of the embedded server without starting it."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.clients.inference import Answer, FakeInferenceClient
from stillhouse.clients.triton import pack_strings, unpack_strings
from stillhouse.errors import ServerError, UsageError
from stillhouse.triton import flags, locate, platform, ports, steering
from stillhouse.triton.birth import birth
from stillhouse.triton.handle import ServerHandle, attach
from stillhouse.triton.locate import Installation
from stillhouse.triton.process import spawn
from stillhouse.triton.runtimes import runtime

RUNTIME = runtime("triton-ort-cpu")
PLACES = Installation(
    *(Path("/opt") / name for name in ["binary", "backends", "stub", "caches", "libs", "libpython", "packages", "source"])
)


def line(**changes: object) -> list[str]:
    endpoints = flags.Endpoints("127.0.0.1", 8001)
    values: dict[str, object] = {
        "backends": Path("/b"),
        "repository": Path("/r"),
        "endpoints": endpoints,
        "server_id": "id",
        "key": "secret",
    }
    return flags.command(RUNTIME, PLACES, **{**values, **changes})  # type: ignore[arg-type]


def test_only_inference_is_open() -> None:
    words = line()
    assert "--model-control-mode=none" in words
    assert "--disable-auto-complete-config" in words
    assert "--allow-http=false" in words
    assert "--allow-metrics=false" in words
    assert "--grpc-restricted-protocol=shared-memory,model-repository,trace,logging:stillhouse-key=secret" in words
    assert not any("http-restricted" in word for word in words)
    assert not any("cache-config" in word for word in words)


def test_http_and_metrics_stay_on_the_same_address_and_are_locked_too() -> None:
    words = line(endpoints=flags.Endpoints("127.0.0.1", 8001, 8000, 8002), response_cache_bytes=5)
    assert "--http-address=127.0.0.1" in words
    assert "--metrics-address=127.0.0.1" in words
    assert "--http-restricted-api=shared-memory,model-repository,trace,logging:stillhouse-key=secret" in words
    assert "--cache-config=local,size=5" in words


def test_environment_keeps_what_is_there() -> None:
    values = flags.environment(RUNTIME, PLACES, {"HOME": "/h", "LD_LIBRARY_PATH": "/mine"})
    assert values["HOME"] == "/h"
    assert values["LD_LIBRARY_PATH"] == "/opt/libs:/opt/libpython:/mine"
    assert values["STILLHOUSE_PYTHONPATH"] == "/opt/source:/opt/packages"
    assert values["TOKENIZERS_PARALLELISM"] == "false"


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_byte_tensors_round_trip(values: list[bytes]) -> None:
    assert unpack_strings(pack_strings(values)) == values


def test_a_port_in_use_names_port_holder_and_fix() -> None:
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(UsageError) as caught:
            ports.require_free("127.0.0.1", port)
        problem = caught.value.problem
        assert str(port) in problem.found
        assert str(os.getpid()) in problem.found
        assert problem.fix.startswith("--port ")
        assert [pid for pid, _ in ports.holders(port)] == [os.getpid()]
    ports.require_free("127.0.0.1", port)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(UsageError, match="no such address"):
        ports.require_free("192.0.2.1", 8001)


def wait_for(path: Path, text: str) -> None:
    deadline = time.monotonic() + 20
    while text not in (path.read_text(encoding="utf-8") if path.exists() else ""):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def handle(pid: int, born: str, log: Path) -> ServerHandle:
    return ServerHandle(pid, born, "127.0.0.1", 1, None, None, str(log), "docs", "sha256:ab", "stillhouse-test-none")


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_process_gets_its_cores_session_and_log(tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0))
    log = tmp_path / "deep" / "log"
    code = "import os,time;print(os.sched_getaffinity(0), os.getsid(0)==os.getpid(), os.environ['X'], flush=True);time.sleep(60)"
    pid, born = spawn(python(code), {"X": "y"}, log, cpus={core})
    server = handle(pid, born, log)
    try:
        wait_for(log, f"{{{core}}} True y")
        assert server.alive()
        server.check()
        assert attach(server.to_json()) == server
    finally:
        server.stop(0.2)
    assert not server.alive()
    assert attach(server.to_json()) is None


def test_death_is_told_with_status_and_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    pid, born = spawn(python("print('\\n'.join(f'line {i}' for i in range(50)));raise SystemExit(7)"), {}, log)
    server = handle(pid, born, log)
    deadline = time.monotonic() + 20
    while server.alive():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with pytest.raises(ServerError) as caught:
        server.check()
    assert "exit status 7" in str(caught.value)
    assert "line 49" in str(caught.value)
    assert "line 29" not in str(caught.value)
    with pytest.raises(ServerError, match="exit status 7"):
        server.check()  # only the first who asks can collect it


def test_a_server_that_ignores_the_signal_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = "import signal,time;signal.signal(15,signal.SIG_IGN);print('up',flush=True);time.sleep(60)"
    pid, born = spawn(python(code), {}, log)
    wait_for(log, "up")
    server = handle(pid, born, log)
    assert server.stop(0.3) is False
    assert not server.alive()


def test_another_process_with_the_same_id_is_not_ours(tmp_path: Path) -> None:
    boot, _, tick = birth(os.getpid()).partition(":")
    assert handle(os.getpid(), f"{boot}:{tick}", tmp_path / "log").alive()
    for born in ("", f"{boot}:{int(tick) + 1}", f"{boot}:{int(tick) - 1}", f"another-boot:{tick}"):
        assert not handle(os.getpid(), born, tmp_path / "log").alive()


def test_a_clock_that_is_set_leaves_a_server_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """psutil adds the boot's time, which moves with the clock."""
    log = tmp_path / "log"
    pid, born = spawn(python("import time;print(1,flush=True);time.sleep(60)"), {}, log)
    server = handle(pid, born, log)
    real = psutil.Process.create_time
    try:
        wait_for(log, "1")
        monkeypatch.setattr(psutil.Process, "create_time", lambda self: real(self) + 3600)
        assert server.alive()
        server.check()
        assert attach(server.to_json()) == server
    finally:
        monkeypatch.undo()
        server.stop(0.2)
    assert not server.alive()


def test_what_is_no_record_is_refused() -> None:
    with pytest.raises(ServerError, match="not readable"):
        attach({"pid": 1})


def test_a_server_can_die_with_its_parent(tmp_path: Path) -> None:
    log = tmp_path / "log"
    source = Path(steering.__file__).parents[2]
    code = (
        f"import sys;sys.path.insert(0,{str(source)!r});from pathlib import Path;from stillhouse.triton.process import spawn;"
        "child=[sys.executable,'-c','print(1,flush=True);import time;time.sleep(60)'];"
        f"print(*spawn(child,{{}},Path({str(log)!r}),die_with_parent=True),flush=True);"
        "import time;time.sleep(60)"
    )
    with subprocess.Popen(python(code), stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid, born = parent.stdout.readline().split()
        server = handle(int(pid), born, log)
        wait_for(log, "1")
        assert server.alive()
        parent.kill()
        deadline = time.monotonic() + 20
        while server.alive():
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_the_filter_is_four_instructions() -> None:
    code = program = steering.program(3, 2)
    assert len(program) == 32
    steps = [struct.unpack_from("HBBI", code, at) for at in range(0, 32, 8)]
    assert steps[1][3] == 2
    assert steps[2][3] == 3


def test_connections_are_steered_to_the_later_listeners() -> None:
    """The kernel does it between sockets of this process, without a server."""
    sockets: list[socket.socket] = []
    for _ in range(4):
        item = socket.socket()
        item.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        item.bind(("127.0.0.1", sockets[0].getsockname()[1] if sockets else 0))
        item.listen(64)
        item.setblocking(False)
        sockets.append(item)
    port = sockets[0].getsockname()[1]
    family = int(socket.AF_INET)
    assert steering.steer("127.0.0.1", port, steering.Listeners(2, family), steering.Listeners(2, family))
    clients = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(32)]
    accepted = []
    for item in sockets:
        count = 0
        while True:
            try:
                item.accept()[0].close()
                count += 1
            except BlockingIOError:
                break
        accepted.append(count)
    for item in [*clients, *sockets]:
        item.close()
    assert accepted[:2] == [0, 0]
    assert sum(accepted) == 32


def test_steering_says_so_when_it_cannot() -> None:
    none = steering.Listeners(0, 0)
    some = steering.Listeners(1, int(socket.AF_INET))
    assert not steering.steer("127.0.0.1", 1, none, some)
    assert not steering.steer("127.0.0.1", 1, some, steering.Listeners(1, int(socket.AF_INET6)))


def test_doctor_names_the_way_out_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "2.31"))
    with pytest.raises(ServerError) as caught:
        platform.require_platform()
    assert "2.31" in caught.value.problem.found
    assert "container" in caught.value.problem.fix
    assert any("CVE" in finding.detail for finding in platform.check_platform())


def test_the_fake_counts_like_a_server() -> None:
    with FakeInferenceClient(lambda model, texts: Answer(labels=[text.upper() for text in texts])) as fake:
        assert fake.infer_texts("docs", ["a", "b"]).labels == ["A", "B"]
        assert fake.statistics("docs").batch_sizes == {2: 1}
    assert fake.closed


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        (
            "stillhouse.triton.repository",
            ["kopf", "kubernetes", "torch", "onnxruntime", "grpc", "numpy", "stillhouse.clients.triton"],
        ),
        ("stillhouse.triton", ["numpy", "grpc", "tritonclient"]),
        ("stillhouse.inference", ["numpy", "onnxruntime", "tokenizers"]),
        ("stillhouse.inference.engine", ["onnxruntime", "tokenizers", "torch", "numpy"]),
        ("stillhouse.clients.triton", ["grpc", "tritonclient", "numpy"]),
        ("stillhouse.triton.server", ["grpc", "tritonclient", "numpy", "torch", "pytriton"]),
    ],
)
def test_imports_stay_light(module: str, forbidden: list[str]) -> None:
    source = Path(steering.__file__).parents[2]
    code = f"import sys;sys.path.insert(0,{str(source)!r});import {module};print([m for m in {forbidden!r} if m in sys.modules])"
    done = subprocess.run(python(code), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_python_without_shared_library_gets_its_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (locate.libpython_folder() / f"libpython3.{sys.version_info.minor}.so.1.0").is_file()
    monkeypatch.setattr(Path, "is_file", lambda _: False)
    monkeypatch.setattr(Path, "exists", lambda self: str(self) == "/etc/debian_version")
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    with pytest.raises(ServerError) as caught:
        locate.libpython_folder()
    assert caught.value.problem.fix == f"sudo apt-get install libpython3.{sys.version_info.minor}"


def test_the_backend_directory_is_laid_out_once(tmp_path: Path) -> None:
    places = locate.find()
    first = locate.prepare_backends(places, tmp_path)
    assert locate.prepare_backends(places, tmp_path) == first
    assert [path.name for path in tmp_path.iterdir()] == [first.name]
    assert os.access(first / "python" / "triton_python_backend_stub", os.X_OK)
    assert (first / "stillhouse" / "model.py").is_file()
