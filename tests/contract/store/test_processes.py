"""The store with other processes, full and read-only disks, and ten thousand receipts: real ones."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.passes import chain, make_runner
from tests.support.stores import digest, key, put, receipt_of

from stillhouse.clients.store.gc import collect
from stillhouse.clients.store.local import LocalStore
from stillhouse.clients.store.locks import Busy
from stillhouse.entrypoints.local.inspecting import PICTURES, inspect
from stillhouse.errors import StoreError, UsageError

ROOT = Path(__file__).parents[3]
HOLD = """
import sys, time
from pathlib import Path
from stillhouse.clients.store.local import LocalStore
store = LocalStore(Path(sys.argv[1]))
with {lock}:
    print("held", flush=True)
    {then}
"""
RUN = """
import json, os, sys
from pathlib import Path
from tests.support.passes import Events, chain, make_runner
class Told(Events):
    def note(self, message):
        super().note(message)
        Path(f"{sys.argv[3]}.noted-{os.getpid()}").touch()
events = Told()
receipts = make_runner(Path(sys.argv[1]), events).run(chain(trouble=sys.argv[2], flag=sys.argv[3]))
print(json.dumps({"ran": events.ran, "notes": events.notes, "digests": {k: r.artifact for k, r in receipts.items()}}))
"""


def python(code: str, *arguments: str | Path) -> subprocess.Popen[str]:
    """Start another process that sees the package and the tests."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'operator'}{os.pathsep}{ROOT}"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextlib.contextmanager
def held(lock: str, root: Path, then: str = "time.sleep(600)") -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a lock; it is killed at the end."""
    process = python(HOLD.format(lock=lock, then=then), root)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n", process.stderr and process.stderr.read()
        yield process
    finally:
        process.kill()
        process.communicate()


def until(condition: Path) -> None:
    """Wait until a file is there."""
    for _ in range(6000):
        if condition.exists():
            return
        time.sleep(0.01)
    raise AssertionError(f"{condition} never came")


def test_two_processes_that_want_one_step_run_it_once(tmp_path: Path) -> None:
    root, flag = tmp_path / "store", tmp_path / "go"
    first = python(RUN, root, "wait", flag)
    until(tmp_path / "go.started")
    second = python(RUN, root, "wait", flag)
    waiting = root / "locks" / f"step-{chain(trouble='wait', flag=str(flag)).step('train/b').key}.lock"
    assert waiting.read_text().strip() == str(first.pid)
    until(tmp_path / f"go.noted-{second.pid}")  # it has found the step taken
    flag.touch()
    reports = []
    for process in (first, second):
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        reports.append(json.loads(out))

    assert reports[0]["digests"] == reports[1]["digests"]
    assert sorted(reports[0]["ran"] + reports[1]["ran"]) == ["train/a", "train/b", "train/c", "train/d"]
    assert "train/b" in reports[0]["ran"]
    assert any(f"pid {first.pid}" in note for note in reports[1]["notes"])


def test_a_holder_killed_in_the_middle_of_a_step_frees_it(tmp_path: Path) -> None:
    root, flag = tmp_path / "store", tmp_path / "go"
    first = python(RUN, root, "wait", flag)
    until(tmp_path / "go.started")
    first.send_signal(signal.SIGKILL)
    first.communicate()
    flag.touch()

    receipts = make_runner(root).run(chain(trouble="wait", flag=str(flag)))
    assert set(receipts) == {"train/a", "train/b", "train/c", "train/d"}
    # The part that the killed process had finished was not written again.
    assert receipts["train/b"].facts["resumed"] == 1


def test_a_waiting_process_goes_on_when_the_holder_is_killed(tmp_path: Path) -> None:
    root, flag = tmp_path / "store", tmp_path / "go"
    first = python(RUN, root, "wait", flag)
    until(tmp_path / "go.started")
    second = python(RUN, root, "wait", flag)
    until(tmp_path / f"go.noted-{second.pid}")
    flag.touch()
    first.kill()
    first.communicate()
    out, err = second.communicate(timeout=60)
    assert second.returncode == 0, err
    assert set(json.loads(out)["digests"]) == {"train/a", "train/b", "train/c", "train/d"}


def test_a_model_is_held_by_one_process_and_freed_by_its_death(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    with held("store.model('m')", tmp_path) as process:
        with pytest.raises(Busy) as busy, store.model("m", wait=False):
            pass
        assert busy.value.holder == str(process.pid)
        with store.model("other", wait=False):
            pass
    with store.model("m", wait=False):
        pass


def test_garbage_is_not_collected_under_a_build_of_another_process(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    put(store)
    with held("store.using()", tmp_path):
        with pytest.raises(UsageError):
            collect(store, lambda: ([], []))
        assert len(store.objects.digests()) == 1
    assert len(collect(store, lambda: ([], [])).objects) == 1


def test_a_build_waits_for_the_collection_and_then_makes_what_it_needs(tmp_path: Path) -> None:
    before = make_runner(tmp_path).run(chain())
    with held("store.alone()", tmp_path, "time.sleep(1)"):
        after = make_runner(tmp_path).run(chain())
    assert {name: receipt.artifact for name, receipt in before.items()} == {n: r.artifact for n, r in after.items()}


def test_the_leftovers_of_a_killed_process_are_collected(tmp_path: Path) -> None:
    leave = "(store.objects.new_dir() / 'half').write_text('x' * 100); time.sleep(600)"
    with held("store.using()", tmp_path, leave):
        until_some(tmp_path / "tmp")
    store = LocalStore(tmp_path)
    assert list(store.tmp.iterdir())
    freed = collect(store, lambda: ([], []))
    assert freed.bytes == 100
    assert list(store.tmp.iterdir()) == []


def until_some(folder: Path) -> None:
    """Wait until a folder holds a file."""
    for _ in range(1000):
        if list(folder.glob("*/half")):
            return
        time.sleep(0.01)
    raise AssertionError(folder)


# disks ------------------------------------------------------------------------------------------------------------------


def in_namespace(script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str] | None:
    """Run a shell script with a mount table of its own; None where this machine does not allow that."""
    command = ["unshare", "--mount", "--map-root-user", "--user"] if os.getuid() else ["unshare", "--mount"]
    try:
        probe = subprocess.run([*command, "sh", "-c", "mount -t tmpfs tmpfs /mnt"], capture_output=True, check=False)
    except FileNotFoundError:
        return None
    if probe.returncode:
        return None
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'operator'}{os.pathsep}{ROOT}"}
    return subprocess.run(
        [*command, "sh", "-c", script, "sh", *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


FILL = """
set -u
root="$1"; python="$2"
mount -t tmpfs -o size=512k tmpfs "$root" || exit 9
"$python" -c "$3" "$root/store" || exit 8                       # the plan fits
before=$(ls "$root/store/steps" | sort | sha256sum)
dd if=/dev/zero of="$root/ballast" bs=1k 2>/dev/null            # no room any more
"$python" -c "$4" "$root/store"; code=$?
echo "code=$code"
test "$before" = "$(ls "$root/store/steps" | sort | sha256sum)" && echo "receipts kept"
"$python" -c "$5" "$root/store" && echo "collected"
rm "$root/ballast"
"$python" -c "$4" "$root/store" && echo "goes on"
"""
FITS = "import sys; from pathlib import Path; from tests.support.passes import *; make_runner(Path(sys.argv[1])).run(chain())"
MORE = """
import sys
from pathlib import Path
from tests.support.passes import draft, make_plan, make_runner
from stillhouse.errors import StoreError
try:
    make_runner(Path(sys.argv[1])).run(make_plan(draft("train/big", "y" * 50000)))
except StoreError as error:
    print(error.problem.message + " | " + error.problem.fix)
    raise SystemExit(error.exit_code)
"""
COLLECT = """
import sys
from pathlib import Path
from stillhouse.clients.store.gc import collect
from stillhouse.clients.store.local import LocalStore
freed = collect(LocalStore(Path(sys.argv[1])), lambda: ([], []))
assert len(freed.objects) == 4, freed
"""


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """Nothing finished is lost, `still gc` works without any room, and with room the build goes on."""
    done = in_namespace(FILL, tmp_path, sys.executable, FITS, MORE, COLLECT)
    if done is None or done.returncode == 9:
        pytest.skip("a file system cannot be mounted here; the unit tests let every single call fail instead")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("the disk is full | free space with `still gc`"), done
    assert lines[1:] == ["code=5", "receipts kept", "collected", "goes on"], done


READ_ONLY = """
root="$1"; python="$2"
mount -t tmpfs tmpfs "$root" || exit 9
"$python" -c "$3" "$root/store" || exit 8
mount -o remount,ro "$root" || exit 9
"$python" -c "$4" "$root/store"; echo "code=$?"
"$python" -c "$5" "$root/store" && echo "readable"
"""
READ = """
import sys
from pathlib import Path
from tests.support.passes import chain, make_runner
runner, plan = make_runner(Path(sys.argv[1])), chain()
assert runner.todo(plan) == []
assert runner.artifact(plan.step("train/c")).path.is_dir()
"""


def test_a_disk_that_is_really_read_only(tmp_path: Path) -> None:
    done = in_namespace(READ_ONLY, tmp_path, sys.executable, FITS, MORE, READ)
    if done is None or done.returncode == 9:
        pytest.skip("a file system cannot be mounted here; the unit tests let every single call fail instead")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("the store cannot be written | give this user the right"), done
    assert lines[1:] == ["code=5", "readable"], done


def test_a_file_that_may_not_grow_further_is_told_so_and_leaves_no_half_object(tmp_path: Path) -> None:
    """RLIMIT_FSIZE works everywhere: a write fails in the middle of a file."""
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000))\n" + MORE
    )
    process = python(code, tmp_path / "store")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == StoreError.exit_code
    assert "no file may become so large" in out
    assert "ulimit -f unlimited" in out
    store = LocalStore(tmp_path / "store")
    assert store.receipt_keys() == []
    assert store.objects.digests() == []
    assert list(store.tmp.iterdir()) == []


# size -------------------------------------------------------------------------------------------------------------------


def test_among_ten_thousand_receipts_status_opens_only_the_models_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path))
    store = LocalStore(tmp_path)
    folder = store.root / "steps"
    folder.mkdir(parents=True)
    for number in range(10_000):
        receipt = receipt_of(f"step-{number}", digest(str(number)))
        (folder / f"{receipt.key}.json").write_text(json.dumps(receipt.to_json()))
    own = [key(f"step-{number}") for number in range(0, 10_000, 1000)]
    steps = [{"id": f"train/{number}", "stage": "train", "key": name} for number, name in enumerate(own)]
    store.write_state("tiny", {"name": "tiny", "steps": steps})

    opened: list[str] = []
    listed: list[str] = []

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event == "open":
            opened.append(str(arguments[0]))
        if watching and event in {"os.listdir", "os.scandir"}:
            listed.append(str(arguments[0]))

    watching = True
    sys.addaudithook(hook)
    try:
        (model,) = inspect()
    finally:
        watching = False
    assert all(step["artifact"] for step in model["steps"])
    assert [Path(name).stem for name in opened if name.startswith(str(folder))] == own
    assert [name for name in opened if name.startswith(str(tmp_path)) and not name.startswith(str(folder))] == [
        str(tmp_path / "models/tiny/state.json"),
        str(tmp_path / "run/tiny/server.json"),
        str(tmp_path / "locks/model-tiny.lock"),
        str(tmp_path / "run/tiny/gateway.json"),
    ]
    assert [name for name in listed if name.startswith(str(tmp_path))] == [str(tmp_path / "models")]
    assert len(store.receipt_keys()) == 10_000


def test_status_says_where_a_steps_pictures_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path))
    store = LocalStore(tmp_path)
    made = put(store, {"model.onnx": b"1", "candidates.svg": b"<svg/>"}), put(store, {"model.onnx": b"2"})
    for name, artifact in zip("ab", made, strict=True):
        store.finish(receipt_of(name, artifact))
    store.write_state("tiny", {"name": "tiny", "steps": [{"id": name, "stage": "gate", "key": key(name)} for name in "abc"]})
    (model,) = inspect()
    drawn, none, missing = (step["pictures"] for step in model["steps"])
    assert [Path(path).read_bytes() for path in drawn] == [b"<svg/>"]
    assert none == missing == []


def test_every_picture_that_a_pass_writes_is_known_to_status() -> None:
    passes = (ROOT / "operator" / "stillhouse" / "passes").rglob("*.py")
    written = {name for path in passes for name in re.findall(r'"([a-z]+\.svg)"', path.read_text(encoding="utf-8"))}
    assert written == set(PICTURES)


def test_a_store_error_names_the_file_that_may_not_be_read(tmp_path: Path) -> None:
    """As a user without rights: a real one, in a child that gives its own up."""
    store = LocalStore(tmp_path / "store")
    store.finish(receipt_of("a", digest("a")))
    path = store.receipt_path(key("a"))
    path.chmod(0)
    if os.getuid() != 0:
        with pytest.raises(StoreError, match="cannot be read"):
            store.receipt(key("a"))
        return
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom stillhouse.clients.store.local import LocalStore\n"
        "from stillhouse.errors import StoreError\nos.chdir(sys.argv[1]); os.setgid(65534); os.setuid(65534)\n"
        "try: LocalStore(Path('store')).receipt(sys.argv[2])\n"
        "except StoreError as error: print(error.problem.message, error.problem.field)\n"
    )
    for folder in (tmp_path, store.root, store.root / "steps"):
        folder.chmod(0o755)
    out, err = python(code, tmp_path, key("a")).communicate(timeout=60)
    assert out.startswith("the store cannot be read store/steps/"), err


LOOK = """
import os, sys
from stillhouse.entrypoints.local.inspecting import inspect
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
(model,) = inspect()
print(model["summary"])
"""


def test_whoever_may_read_a_store_may_look_at_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a real user who has no right to write there, also while a model is being built."""
    # Not below tmp_path: that is for nobody's eyes but ours.
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        for variable in ("STILLHOUSE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
            monkeypatch.setenv(variable, str(root))
        store = LocalStore(root)
        store.write_state("tiny", {"name": "tiny"})
        with store.model("tiny"):
            (root / "models/tiny/state.json").chmod(0o644)
            folders = (root, root / "models", root / "models/tiny", root / "locks")
            for folder in folders:
                folder.chmod(0o555)
            out, err = python(LOOK).communicate(timeout=60)
            assert out == f"not serving, process {os.getpid()} builds or starts it\n", err
        out, err = python(LOOK).communicate(timeout=60)
        assert out == "not serving\n", err
        for folder in folders:
            folder.chmod(0o755)
