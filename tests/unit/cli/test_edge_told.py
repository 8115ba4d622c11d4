"""What `still edge` and `still ask` say when something is in the way."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tests.support.tiny_model import write_tiny_model
from tests.unit.cli.conftest import Still

from stillhouse.clients.store.files import write_sealed
from stillhouse.clients.store.local import LocalStore
from stillhouse.edge.oip.messages import message
from stillhouse.edge.oip.tables import parsed
from stillhouse.edge.oip.tensors import packed_bytes
from stillhouse.edge.status import Code, RpcError
from stillhouse.entrypoints import gateway
from stillhouse.entrypoints.commands.ask import again
from stillhouse.entrypoints.edge import record, starting
from stillhouse.entrypoints.edge.asking import _answer, _refused, _request, _said
from stillhouse.entrypoints.edge.preparing import Prepared
from stillhouse.errors import ServerError, UsageError
from stillhouse.triton.birth import birth


def test_an_authority_that_cannot_be_read_is_named(still: Still, tmp_path: Path) -> None:
    (tmp_path / "here" / "text.crt").write_text("no certificate")
    for file, why in (("nothing.crt", "No such file"), ("text.crt", "")):
        done = still("ask", "tiny", "--at", "127.0.0.1:9", "--tls-authority", file, "a text")
        assert done.code == 2
        assert "--tls-authority" in done.err
        assert f"{file}: {why}" in done.err


def test_a_certificate_of_nobody_known_says_what_to_give() -> None:
    error = RpcError(Code.UNAVAILABLE, "127.0.0.1:8101: [SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate")
    refused = _refused(error, "tiny", "127.0.0.1:8101")
    assert isinstance(refused, UsageError)
    assert refused.problem.field == "--tls-authority"


def test_nobody_there_is_told_once() -> None:
    error = RpcError(Code.UNAVAILABLE, "the server cannot be reached", detail="127.0.0.1:9: Connection refused")
    refused = _refused(error, "tiny", "127.0.0.1:9")
    assert isinstance(refused, ServerError)
    assert refused.problem.found == "UNAVAILABLE: 127.0.0.1:9: Connection refused"


def test_a_request_that_waits_is_told_with_its_key() -> None:
    said = _said({"leg": "edge", "variant": "int8", "away": "queue", "queued": "key-1", "milliseconds": 1.0})
    assert "the larger model did not answer, so the small one's answer stands (away.policy: queue); queued as key-1" in said


@pytest.mark.parametrize(
    ("door", "record", "field"),
    [
        ("--listen", False, "--listen"), ("--rest", False, "--rest"), ("--metrics", False, "--metrics"),
        ("--listen", True, "--port"), ("--rest", True, "--rest-port"), ("--metrics", True, "--metrics-port"),
    ],
)  # fmt: skip
def test_a_port_that_is_taken_is_told_by_the_option_that_names_it(door: str, record: bool, field: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        places = {"--listen": "127.0.0.1:0", "--rest": "127.0.0.1:0", "--metrics": "127.0.0.1:0", door: f"127.0.0.1:{port}"}
        arguments = ["--model", "tiny=127.0.0.1:9", *(word for place in places.items() for word in place)]
        arguments += ["--record", str(tmp_path / "record.json")] if record else []
        done = CliRunner().invoke(gateway.main, arguments)
    assert done.exit_code == 5
    assert f"error: {field}: the gateway cannot listen" in done.output
    assert f"127.0.0.1:{port}: Address already in use" in done.output
    assert "name another port" in done.output


def test_the_outputs_of_a_pipelines_steps_are_asked_for_and_shown() -> None:
    asked = parsed(
        message("ModelInferRequest"), _request("tiny", "a", None, {"LABEL", "PROBABILITIES", "PROVENANCE", "ODDS", "TOPIC"})
    )
    assert [each.name for each in asked.outputs] == ["LABEL", "PROBABILITIES", "ODDS", "TOPIC"]
    response = message("ModelInferResponse")(model_name="tiny")
    for name, datatype, width, content in (
        ("LABEL", "BYTES", 1, packed_bytes([b"no"])),
        ("PROBABILITIES", "FP32", 2, np.array([0.75, 0.25], "<f4").tobytes()),
        ("ODDS", "FP32", 2, np.array([0.5, 2.0], "<f4").tobytes()),
        ("TOPIC", "BYTES", 1, packed_bytes([b"news"])),
    ):
        response.outputs.add(name=name, datatype=datatype, shape=[1, width])
        response.raw_output_contents.append(content)
    assert _answer("a", response, ["no", "yes"], 0.001, 5)["steps"] == {"ODDS": [0.5, 2.0], "TOPIC": ["news"]}


def test_a_policy_that_fails_is_not_a_gateway_that_is_silent() -> None:
    refused = _refused(RpcError(Code.UNAVAILABLE, "the larger model is away: UNAVAILABLE: cloud"), "tiny", "127.0.0.1:9")
    assert "away.policy: fail" in str(refused)


def test_a_late_answer_is_asked_for_by_a_line_that_can_be_run() -> None:
    assert again("tiny", "it's -x", "key 1", None, None) == """still ask tiny --key 'key 1' 'it'"'"'s -x'"""
    where = again("tiny", "-x", "k", "10.0.0.7:8101", Path("a.crt"))
    assert where == "still ask tiny --at 10.0.0.7:8101 --tls-authority a.crt --key k -- -x"


@pytest.mark.parametrize(("key", "texts"), [("k", ("a", "b")), ("", ("a",)), ("ä", ("a",)), ("a b", ("a",)), ("k" * 129, ("a",))])
def test_a_key_is_of_one_request(still: Still, key: str, texts: tuple[str, ...]) -> None:
    done = still("ask", "tiny", "--at", "127.0.0.1:9", "--key", key, *texts)
    assert done.code == 2
    assert "--key" in done.err


def test_another_requests_key_is_no_silent_gateway() -> None:
    refused = _refused(RpcError(Code.ALREADY_EXISTS, "the idempotency key k belongs to another request"), "tiny", "127.0.0.1:9")
    assert isinstance(refused, UsageError)
    assert refused.problem.field == "--key"


def test_the_log_of_the_gateway_before_is_kept_and_does_not_grow(tmp_path: Path) -> None:
    log = tmp_path / "gateway.log"
    starting._set_aside(log)
    log.write_bytes(b"")
    starting._set_aside(log)
    assert not (tmp_path / "gateway.log.1").exists(), "nothing was said"
    log.write_bytes(b"first\n" + b"x" * 99 + b"\n")
    starting._set_aside(log)
    assert (tmp_path / "gateway.log.1").read_bytes().startswith(b"first\n")
    log.write_bytes((b"y" * 99 + b"\n") * (starting._LOG_BYTES // 100 + 1000) + b"why\n")
    starting._set_aside(log)
    kept = (tmp_path / "gateway.log.1").read_bytes()
    assert len(kept) <= starting._LOG_BYTES
    assert kept.startswith(b"y" * 99 + b"\n")
    assert kept.endswith(b"\nwhy\n")


@pytest.mark.parametrize(("config", "kind"), [("{", UsageError), ("folder", ServerError)])
def test_a_gateway_that_does_not_start_says_whose_mistake_it_is(config: str, kind: type, tmp_path: Path) -> None:
    """A file that is none is a user's mistake; a port that is taken is the machine's."""
    file = tmp_path / "gateway.json"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        if config == "folder":
            write_tiny_model(tmp_path / "edge", task="text-classification")
            edge = {"kind": "engine", "folder": str(tmp_path / "edge"), "digest": "sha256:" + "1" * 64}
            listen = {"grpc": f"127.0.0.1:{taken.getsockname()[1]}"}
            config = json.dumps({"version": 1, "name": "tiny", "listen": listen, "edge": edge})
        file.write_text(config)
        with pytest.raises(kind, match="the gateway did not start") as refused:
            starting.detach(LocalStore(tmp_path / "home"), Prepared("tiny", file, {}, None))
    assert "error: " in refused.value.problem.found


def test_of_a_file_whose_gateway_only_preprocesses_no_source_is_looked_at(still: Still, tmp_path: Path) -> None:
    spec = {
        "source": {"uri": "models:nowhere", "task": "text-classification"},
        "edge": {"preprocess": {"model": "large", "steps": [{"kind": "tokenise", "maxLength": 16}]}},
    }
    file = tmp_path / "here" / "steps.yaml"
    about = {"apiVersion": "stillhouse.io/v1alpha1", "kind": "DistilledModel", "metadata": {"name": "steps"}}
    file.write_text(json.dumps({**about, "spec": spec}))
    done = still("lint", "steps.yaml")
    assert done.code == 0
    assert "is valid; its gateway runs steps alone" in done.out
    spec["edge"]["preprocess"]["steps"] = [{"kind": "window", "length": 4, "hop": 2}]  # type: ignore[index]
    file.write_text(json.dumps({**about, "spec": spec}))
    built = still("build", "steps.yaml")
    assert (built.code, "(steps, " in built.out) == (0, True), "no step reads a file of the source"
    for command in (("up", "steps.yaml"), ("export", "--format", "openvino", "steps.yaml"), ("infer", "steps", "a text")):
        done = still(*command)
        assert done.code == 2 and re.search(r"still edge \S*steps.yaml", done.err)
    del spec["edge"]["preprocess"]  # type: ignore[attr-defined]
    file.write_text(json.dumps({**about, "spec": spec}))
    assert "models:nowhere" in still("lint", "steps.yaml").err


def test_a_late_answer_has_nobodys_confidence_and_is_json_all_the_same() -> None:
    response = message("ModelInferResponse")(model_name="tiny")
    response.parameters["leg"].string_param = "cloud"
    response.parameters["confidence"].double_param = float("nan")
    response.parameters["threshold"].double_param = float("inf")
    answer = _answer("a", response, [], 0.001, 5)
    assert json.loads(json.dumps(answer, allow_nan=False))["trace"]["confidence"] is None
    assert "confidence" not in answer["said"]


def test_a_gateway_that_was_killed_is_told(still: Still, tmp_path: Path) -> None:
    file = record.path(LocalStore(tmp_path / "store"), "tiny")
    file.parent.mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        data = {"name": "tiny", "pid": process.pid, "born": birth(process.pid), "listen": {}, "config": "c", "tls": False}
        write_sealed(file, data, tmp=file.parent)
    done = still("edge", "status")
    assert done.code == 0
    assert f"tiny: its gateway (process {process.pid}) was killed; start it again: still edge FILE" in done.out
    assert json.loads(still("edge", "status", "-o", "json").out) == []
