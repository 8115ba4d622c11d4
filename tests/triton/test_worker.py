"""The worker, stage by stage as the Jobs of a build run it: what it leaves, and what becomes of mistakes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.cli import Project
from tests.support.stores import put
from tests.support.tiers import require

from stillhouse.clients.store.local import LocalStore
from stillhouse.entrypoints.worker.given import NEEDED_VARIABLE
from stillhouse.entrypoints.worker.record import LIMIT
from stillhouse.planning import packed


class Pod:
    """A pod's file systems, and the operator's part: the environment."""

    def __init__(self, folder: Path, project: Project) -> None:
        self.folder = folder
        self.more: dict[str, str] = {}
        self.before: list[str] = []
        self.claim = folder / "claims" / "models"
        shutil.copytree(project.folder, self.claim / "sources")
        self.model: dict[str, Any] = yaml.safe_load(project.file.read_text())
        named = yaml.safe_load((project.folder / "stillhouse.yaml").read_text())["sources"]
        places = {uri: named.get(uri, uri).removeprefix("file://") for uri in self._uris(self.model["spec"])}
        self.bound = {uri: f"pvc://models/sources/{place}" for uri, place in places.items()}

    def _uris(self, value: Any) -> set[str]:
        if isinstance(value, dict):
            own = {value["uri"]} if isinstance(value.get("uri"), str) else set()
            return own.union(*(self._uris(inner) for inner in value.values())) if value else own
        return set().union(*(self._uris(inner) for inner in value)) if isinstance(value, list) else set()

    @property
    def store(self) -> LocalStore:
        return LocalStore(self.claim / "store")

    def start(self, stage: str, *more: str) -> subprocess.Popen[str]:
        work, message = self.folder / f"work-{stage}-{time.monotonic_ns()}", self.folder / "message"
        work.mkdir()
        message.unlink(missing_ok=True)
        given = {"STILLHOUSE_MODEL": json.dumps(self.model), "STILLHOUSE_SOURCES": json.dumps(self.bound)}
        environment = {**os.environ, **given, **self.more}
        words = [sys.executable, "-m", "stillhouse.entrypoints.worker", "build", f"--stage={stage}"]
        words += [
            f"--store={self.claim / 'store'}",
            f"--claims={self.folder / 'claims'}",
            f"--work={work}",
            f"--message={message}",
            *more,
        ]
        return subprocess.Popen(
            [*self.before, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def run(self, stage: str, *more: str) -> tuple[int, dict[str, Any], str]:
        """Return exit code, termination message and log of a stage."""
        process = self.start(stage, *more)
        log, _ = process.communicate(timeout=240)
        message = self.folder / "message"
        content = message.read_bytes() if message.exists() else b"{}"
        assert len(content) <= LIMIT
        return process.returncode, packed.told(content), log


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    project = Project(tmp_path / "project", tmp_path / "none", tmp_path / "cache").create()
    return Pod(tmp_path / "pod", project)


def test_stages_lead_to_a_record_and_a_second_build_to_the_same_at_once(pod: Pod) -> None:
    stage, seen = "resolve", []
    while stage:
        code, told, log = pod.run(stage)
        assert code == 0, log
        seen.append(stage)
        stage = told["next"]
    assert seen == ["resolve", "compress", "gate"]
    record = told["record"]
    assert record["precision"] == "int8"
    assert not pod.store.objects.check(record["digest"]), "the artifact is whole"
    made_of = record["lineage"]
    receipts = [pod.store.receipt(key) for key in pod.store.receipt_keys()]
    read = {each.config["digest"] for each in receipts if each is not None and each.pass_name.startswith("import-")}
    assert {each["digest"] for each in made_of["sources"]} == read
    assert {each["name"] for each in made_of["sources"]} == {"source", "gate-data", "index-data"}
    assert {"onnx", "onnxruntime"} <= {each["name"] for each in made_of["toolchain"] if each["value"]}
    code, again, log = pod.run("resolve")
    assert again["record"]["lineage"] == made_of, "also of a build that found everything in the store"
    assert (code, again["next"], again["record"]["digest"]) == (0, None, record["digest"]), log
    assert again["planHash"] == told["planHash"]


def test_a_stage_whose_pod_is_killed_goes_on_in_the_next(pod: Pod) -> None:
    process = pod.start("resolve")
    assert process.stdout is not None
    said: list[str] = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("[2/3]"):  # the first step is done, the second is under way
            break
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, f"it had ended before: {said}"
    code, told, log = pod.run("resolve")
    assert (code, told["next"]) == (0, "compress"), log
    assert "cached resolve/source" in log and "[1/2] resolve/gate-data" in log, log
    assert "cached" not in "".join(said)


def test_mistakes_end_with_their_code_and_reason(pod: Pod) -> None:
    pod.bound = {uri: target + "-none" for uri, target in pod.bound.items()}
    code, told, log = pod.run("resolve")
    assert (code, told["reason"]) == (2, "SourceUnusable"), log
    assert "spec.source.uri" in told["message"]
    assert "Traceback" not in log


def test_a_gate_that_refuses_says_so(pod: Pod) -> None:
    pod.model["spec"]["gate"]["maxSize"] = "1Ki"
    assert pod.run("resolve")[1]["next"] == "compress"
    assert pod.run("compress")[1]["next"] == "gate"
    code, told, log = pod.run("gate")
    assert (code, told["reason"]) == (3, "GateFailed"), log
    assert {each["outcome"] for each in told["record"]["candidates"]} == {"failed"}
    assert len(told["planHash"]) == 64
    assert [each["name"] for each in told["record"]["lineage"]["sources"]] == ["source", "gate-data", "index-data"]
    assert "size" in told["record"]["candidates"][0]["reason"]


def test_a_full_volume_is_told_as_such(tmp_path: Path) -> None:
    """The store on a real file system that has no room: the pod says so in words that the operator knows."""
    pod = Pod(tmp_path / "pod", Project(tmp_path / "project", tmp_path / "none", tmp_path / "cache").create())
    store = pod.claim / "store"
    store.mkdir()
    mounted = 'mount -t tmpfs -o size=64k tmpfs "$0" || exit 99; exec "$@"'
    pod.before = ["unshare", "--mount", *(["--map-root-user", "--user"] if os.getuid() else []), "sh", "-c", mounted, str(store)]
    code, told, log = pod.run("resolve")
    if code == 99 or "unshare" in log:
        require("triton", "no file system can be mounted here: unshare --mount needs root, or user namespaces")
    assert (code, told["reason"]) == (5, "StoreFull"), log


def test_a_build_frees_what_its_namespace_has_not_needed_for_a_day(pod: Pod) -> None:
    """What a namespace's records name stays, and what the present plan has made; the rest goes, where it was marked long ago."""
    named, left = (put(pod.store, {"f": each}) for each in (b"named", b"left"))
    name = pod.model["metadata"]["name"]
    pod.more = {NEEDED_VARIABLE: json.dumps({"namespace": "team", "models": [name], "digests": [named[:23]]})}
    assert pod.run("resolve")[1]["next"] == "compress"
    before = set(pod.store.objects.digests())
    assert {named, left} < before, "it is a day too early"
    marks = pod.store.root / "unneeded.json"
    assert json.loads(marks.read_text()).keys() == {left}
    marks.write_text(json.dumps({left: 1.0, named: 1.0}))
    code, told, log = pod.run("resolve")
    assert (code, told["next"]) == (0, "compress"), log
    assert set(pod.store.objects.digests()) == before - {left}
    assert "freed" in log


def test_two_workers_train_and_one_result_is_left(tmp_path: Path) -> None:
    """As the pods of an Indexed Job: the number by the environment, one store, number 0's words and result alone count."""
    pod = Pod(tmp_path / "pod", Project(tmp_path / "project", tmp_path / "none", tmp_path / "cache").create_distilling())
    assert pod.run("resolve")[1]["next"] == "train"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        together = ["--workers=2", f"--meet=127.0.0.1:{taken.getsockname()[1]}"]
    loopback = {"GLOO_SOCKET_IFNAME": "lo", "OMP_WAIT_POLICY": "PASSIVE"}  # two of them on few CPUs
    pod.more = {**loopback, "JOB_COMPLETION_INDEX": "1"}
    helper = pod.start("train", *together, f"--message={tmp_path / 'other'}")
    pod.more = {**loopback, "JOB_COMPLETION_INDEX": "0"}
    code, told, log = pod.run("train", *together)
    said, _ = helper.communicate(timeout=120)
    assert (code, told["next"]) == (0, "compress"), log + said
    assert helper.returncode == 0, said
    assert "train/soft: worker 1 of 2" in said and "train/student: worker" not in said
    assert json.loads((tmp_path / "other").read_text()) == {"stage": "train", "worker": 1}
