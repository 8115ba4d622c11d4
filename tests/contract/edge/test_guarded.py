"""The guard and the audit log of a gateway, over real sockets: what gets through, what does not, what is written of it."""

from __future__ import annotations

import errno
import json
import struct
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.support.gateway_process import gateway, refused
from tests.support.kube.process import free_port
from tests.support.oip_backend import Site, site
from tritonclient.grpc import service_pb2 as triton

from stillhouse.edge.guard.audit import chain
from stillhouse.edge.guard.audit.files import listing
from stillhouse.edge.guard.audit.records import Key
from stillhouse.edge.guard.audit.verify import verify
from stillhouse.edge.guard.clients import Clients
from stillhouse.edge.guard.patterns import Rule
from stillhouse.edge.guard.shapes import Bounds
from stillhouse.edge.screening.settings import AuditSettings, ScreenSettings
from stillhouse.entrypoints.cli import run as still
from stillhouse.errors import StoreError

SERVICE = "/inference.GRPCInferenceService"
TEXT, MASKED = "write to jane@example.org now", "write to [mail] now"
TEXTS = ("text", "BYTES", 13, [1])
SCREEN = ScreenSettings(
    Bounds(message=1 << 20, dimension=100, elements=1000, characters=100),
    patterns=(Rule("mail", "mask", named="email"), Rule("secret", "refuse", "internal only")),
    again_s=0.0,
)
TOKEN = "a-token-of-sixteen-or-more"


def packed(*elements: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(each)) + each for each in elements)


def tensor(name: str = "x", datatype: str = "FP32", shape: tuple[int, ...] = (1, 3), raw: bytes | None = b"\0" * 12) -> Any:
    request = triton.ModelInferRequest(model_name="echo", id="7")
    request.inputs.add(name=name, datatype=datatype, shape=shape)
    if raw is not None:
        request.raw_input_contents.append(raw)
    return request


def text(*elements: str, typed: bool = False) -> Any:
    given = [each.encode() for each in elements]
    request = tensor("text", "BYTES", (len(given), 1), None if typed else packed(*given))
    if typed:
        request.inputs[0].contents.bytes_contents.extend(given)
    return request


class Line:
    """A client of the gateway that sends bytes."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address)

    def bytes(self, method: str, body: bytes, **metadata: str) -> bytes:
        call = self._channel.unary_unary(f"{SERVICE}/{method}")
        return bytes(call(body, timeout=20, metadata=tuple((name.replace("_", "-"), value) for name, value in metadata.items())))

    def infer(self, request: Any, **metadata: str) -> Any:
        body = request if isinstance(request, bytes) else request.SerializeToString()
        return triton.ModelInferResponse.FromString(self.bytes("ModelInfer", body, **metadata))

    def refused(self, request: Any, **metadata: str) -> tuple[str, str]:
        with pytest.raises(grpc.RpcError) as caught:
            self.infer(request, **metadata)
        return caught.value.code().name, caught.value.details()

    def close(self) -> None:
        self._channel.close()


@pytest.fixture(scope="module")
def there() -> Iterator[tuple[Site, Line, str]]:
    """A gateway with a guard, before a model of numbers and texts."""
    metrics = free_port()
    with site(screen=SCREEN, metrics=("127.0.0.1", metrics)) as found:
        line = Line(found.grpc)
        yield found, line, f"http://127.0.0.1:{metrics}"
        line.close()


def changed(change: Callable[[Any], Any]) -> Any:
    request = tensor()
    change(request)
    return request


def typed(datatype: str, field: str, values: list[Any], shape: tuple[int, ...] = (1, 3)) -> Any:
    request = tensor(datatype=datatype, shape=shape, raw=None)
    getattr(request.inputs[0].contents, field).extend(values)
    return request


HOSTILE: dict[str, tuple[Any, str]] = {
    "giant": (tensor(shape=(2**62, 3)), "found 4611686018427387904"),
    "giants": (tensor(shape=(2**62, 2**62)), "found 4611686018427387904"),
    "negative": (tensor(shape=(-1, 3)), "found -1"),
    "least": (tensor(shape=(-(2**63), 3)), "found -9223372036854775808"),
    "zero": (tensor(shape=(0, 3), raw=b""), "found 0"),
    "rows": (tensor(shape=(9, 3), raw=b"\0" * 108), "allowed 1 to 8"),
    "rank": (tensor(shape=(1,) * 5000), "5000 dimensions"),
    "short": (tensor(raw=b"\0" * 11), "found 11 bytes; allowed 12 bytes"),
    "long": (tensor(raw=b"\0" * 13), "found 13 bytes"),
    "type": (tensor(datatype="FP64"), "another data type"),
    "no type": (tensor(datatype="FP8" * 1000), "another data type"),
    "name": (tensor(name="y\n\x1b[2J"), "no such input"),
    "none": (triton.ModelInferRequest(model_name="echo"), "an input is missing"),
    "twice": (changed(lambda each: each.inputs.append(each.inputs[0])), "too many"),
    "raw twice": (changed(lambda each: each.raw_input_contents.append(b"")), "2 entries"),
    "both": (changed(lambda each: each.inputs[0].contents.fp32_contents.extend([1, 2, 3])), "both forms"),
    "few typed": (typed("FP32", "fp32_contents", [1.0, 2.0]), "2 elements; allowed 3"),
    "other field": (typed("FP32", "fp64_contents", [1.0] * 3), "contents of another type"),
    "shared memory in": (changed(lambda each: each.inputs[0].parameters["shared_memory_region"].MergeFrom(
        triton.InferParameter(string_param="r"))), "shared memory"),
    "shared memory out": (changed(lambda each: each.outputs.add(name="x").parameters["shared_memory_region"].MergeFrom(
        triton.InferParameter(string_param="r"))), "shared memory"),
    "no message": (b"\xff" * 100, "this is no ModelInferRequest"),
    "half a message": (tensor().SerializeToString()[:-3], "this is no ModelInferRequest"),
    "many parts": (b"\x2a\x00" * 50_000, "more than 4096 parts"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_what_cannot_be_meant_for_the_model_does_not_reach_it(there: tuple[Site, Line, str], name: str) -> None:
    found, line, _ = there
    found.backend.inputs = [("x", "FP32", 11, [3])]
    line.infer(tensor())
    before = len(found.backend.requests)
    request, words = HOSTILE[name]
    code, said = line.refused(request)
    assert code == "INVALID_ARGUMENT" and words in said and "\x1b" not in said and len(said) < 600
    assert len(found.backend.requests) == before
    assert line.infer(tensor()).raw_output_contents == [b"\0" * 12]


@pytest.mark.parametrize("form", [False, True], ids=["raw", "typed"])
def test_texts_are_masked_or_refused_before_the_model_sees_them(there: tuple[Site, Line, str], form: bool) -> None:
    found, line, _ = there
    found.backend.inputs = [TEXTS]
    answer = line.infer(text("as it is", TEXT, typed=form))
    assert answer.outputs[0].shape == [2, 1] and answer.raw_output_contents == [packed(b"as it is", MASKED.encode())]
    before = len(found.backend.requests)
    assert line.refused(text("x", "for internal only", typed=form))[1].startswith("text[1]: the text has what pattern 'secret'")
    assert "101 characters" in line.refused(text("é" * 101, typed=form))[1]
    assert "no UTF-8" in line.refused(tensor("text", "BYTES", (1, 1), packed(b"\xff\xfe")))[1]
    lying = tensor("text", "BYTES", (1, 1), struct.pack("<I", 2**32 - 1) + b"x")
    assert "longer than what is left" in line.refused(lying)[1]
    assert len(found.backend.requests) == before


def test_a_new_revision_of_the_model_is_met_by_asking_anew(there: tuple[Site, Line, str]) -> None:
    found, line, _ = there
    found.backend.inputs = [("x", "FP32", 11, [3])]
    line.infer(tensor())
    told = found.backend.told
    for _ in range(5):
        line.infer(tensor())
    assert found.backend.told == told, "what is known is not asked for again"
    found.backend.inputs = [("x", "FP32", 11, [4])]
    line.infer(tensor(shape=(1, 4), raw=b"\0" * 16))
    assert found.backend.told == told + 1


def test_names_that_clients_make_up_make_no_metrics(there: tuple[Site, Line, str]) -> None:
    _, line, metrics = there
    for number in range(30):
        code, said = line.refused(triton.ModelInferRequest(model_name=f"other-namespace/model-{number}" * 50))
        assert code == "NOT_FOUND" and len(said) < 600
        assert line.refused(tensor(name=f"made-up-{number}"))[0] == "INVALID_ARGUMENT"
    with urllib.request.urlopen(f"{metrics}/metrics", timeout=10) as answer:
        told = answer.read().decode()
    assert "other-namespace" not in told and "made-up" not in told
    assert 'stillhouse_gateway_inferences_total{code="NOT_FOUND",model=""}' in told
    assert 'stillhouse_gateway_guard_refused_total{model="echo",reason="inputs"}' in told


def data(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for file in listing(folder) for line in file.read_bytes().splitlines()]


def test_every_call_has_its_record_and_none_has_its_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, key, tokens = tmp_path / "audit", tmp_path / "audit.key", tmp_path / "tokens"
    key.write_text("0123456789abcdef" * 4)
    tokens.mkdir()
    (tokens / "team-a").write_text(TOKEN)
    audit = AuditSettings(folder, required=True, key=key, known={"echo": {"variant": "int8", "digest": "sha256:00"}})
    with site(screen=SCREEN, audit=audit, clients=Clients(tokens)) as found:
        found.backend.inputs = [TEXTS]
        line = Line(found.grpc)
        line.infer(text("plain", TEXT), x_api_key=TOKEN)
        line.infer(text("plain", TEXT), authorization=f"Bearer {TOKEN}")
        line.refused(text("internal only"), x_api_key=TOKEN)
        line.refused(text("a secret of somebody"))
        line.refused(text("a secret of somebody"), x_api_key="not-the-token-of-anybody")
        line.refused(triton.ModelInferRequest(model_name="nobody"), x_api_key=TOKEN)
        line.refused(b"\xff", x_api_key=TOKEN)
        line.bytes("ModelConfig", triton.ModelConfigRequest(name="echo").SerializeToString(), x_api_key=TOKEN)
        line.bytes("RepositoryIndex", b"", x_api_key=TOKEN)
        line.bytes("ModelReady", triton.ModelReadyRequest(name="echo").SerializeToString(), x_api_key=TOKEN)
        line.close()
    report = verify(folder, key=Key.read(key))
    assert report.whole and report.keyed
    assert still(["audit", "verify", str(folder), "--key-file", str(key)]) == 0
    assert "whole" in capsys.readouterr().out
    own = [each for each in data(folder) if each["kind"] in ("request", "call")]
    told = [(each["data"].get("client"), each["data"].get("model"), each["data"]["code"]) for each in own]
    assert told == [
        ("team-a", "echo", "OK"), ("team-a", "echo", "OK"), ("team-a", "echo", "INVALID_ARGUMENT"),
        (None, "", "UNAUTHENTICATED"), (None, "", "UNAUTHENTICATED"), ("team-a", "nobody", "NOT_FOUND"),
        ("team-a", "", "INVALID_ARGUMENT"), ("team-a", "echo", "OK"), ("team-a", None, "OK"),
    ]  # fmt: skip
    one, other = own[0]["data"], own[1]["data"]
    assert one["answer"]["leg"] == "edge" and one["answer"]["confidence"] == 0.75
    assert (one["answer"]["variant"], one["answer"]["digest"], one["masked"]) == ("int8", "sha256:00", {"mail": 1})
    assert one["inputs"]["text"] == other["inputs"]["text"] != own[2]["data"]["inputs"]["text"]
    assert one["inputs"]["text"]["bytes"] == len(packed(b"plain", MASKED.encode()))
    written = b"".join(each.read_bytes() for each in listing(folder))
    assert not any(
        word in written for word in (b"jane", b"plain", b"internal only", b"secret of", TOKEN.encode(), b"not-the-token")
    )


def test_inputs_are_kept_where_that_was_asked_for_as_the_model_got_them(tmp_path: Path) -> None:
    with site(screen=SCREEN, audit=AuditSettings(tmp_path / "audit", raw=True)) as found:
        found.backend.inputs = [TEXTS]
        line = Line(found.grpc)
        line.infer(text(TEXT))
        line.refused(text("jane@example.org is internal only"))
        line.close()
    written = b"".join(each.read_bytes() for each in listing(tmp_path / "audit"))
    assert MASKED.encode() in written and b"jane" not in written


def test_a_disk_that_is_full_ends_answers_where_records_are_required(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    port = free_port()
    with site(audit=AuditSettings(tmp_path / "audit", required=True), metrics=("127.0.0.1", port)) as found:
        line = Line(found.grpc)
        line.infer(tensor())
        real = chain.write_all
        monkeypatch.setattr(chain, "write_all", full)
        said = ("", "")
        for _ in range(500):
            try:
                line.infer(tensor())
                time.sleep(0.01)
            except grpc.RpcError as error:
                said = (error.code().name, error.details())
                break
        assert said[0] == "UNAVAILABLE" and "recorded" in said[1] and "No space left" in said[1]
        before = len(found.backend.requests)
        line.refused(tensor())
        assert len(found.backend.requests) == before, "what cannot be recorded is not asked either"
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10)
        assert caught.value.code == 503 and b"audit log" in caught.value.read()
        monkeypatch.setattr(chain, "write_all", real)
        for _ in range(500):
            try:
                line.infer(tensor())
                break
            except grpc.RpcError:
                time.sleep(0.02)
        else:
            raise AssertionError("it answers once there is room")
        line.close()
    assert verify(tmp_path / "audit").whole


def test_a_log_that_cannot_be_opened(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(StoreError, match="the audit log cannot be opened"), site(audit=AuditSettings(blocked / "audit", True)):
        pass
    port = free_port()
    with site(audit=AuditSettings(blocked / "audit", retry_s=0.05), metrics=("127.0.0.1", port)) as found:
        line = Line(found.grpc)
        line.infer(tensor())
        line.infer(tensor())
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10) as answer:
            assert answer.read().decode().startswith("ok\naudit log: ")
        assert "stillhouse_gateway_audit_writable 0.0" in told(port) and "audit_dropped_total 2.0" in told(port)
        blocked.unlink()
        for _ in range(500):
            if "stillhouse_gateway_audit_writable 1.0" in told(port):
                break
            time.sleep(0.02)
        line.infer(tensor())
        line.close()
    assert verify(blocked / "audit").whole
    kinds = [(each["kind"], each["data"].get("dropped")) for each in data(blocked / "audit")]
    assert kinds[-2:] == [("gap", 2), ("request", None)]


def test_the_command_has_a_log_or_says_why_it_has_none(tmp_path: Path) -> None:
    words = ("--model", "echo=127.0.0.1:9", "--audit-required", "--audit")
    with gateway(*words, str(tmp_path / "audit")) as running:
        line = Line(running.address)
        assert line.refused(tensor())[0] == "UNAVAILABLE"
        line.close()
    assert verify(tmp_path / "audit").whole
    assert [each["data"]["code"] for each in data(tmp_path / "audit") if each["kind"] == "request"] == ["UNAVAILABLE"]
    (tmp_path / "file").write_text("in the way")
    code, said = refused("--listen=127.0.0.1:0", *words, str(tmp_path / "file" / "audit"))
    assert code != 0 and "the audit log cannot be opened" in said and "Traceback" not in said


def told(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


def test_tokens_tried_by_force_do_not_push_the_log_away(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.mkdir()
    (tokens / "team-a").write_text(TOKEN)
    with site(audit=AuditSettings(tmp_path / "audit"), clients=Clients(tokens)) as found:
        line = Line(found.grpc)
        codes = {line.refused(tensor(), x_api_key=f"guessed-token-number-{number}")[0] for number in range(400)}
        assert codes == {"UNAUTHENTICATED", "RESOURCE_EXHAUSTED"}
        line.infer(tensor(), x_api_key=TOKEN)
        line.close()
    own = [each["data"] for each in data(tmp_path / "audit") if each["kind"] == "request"]
    assert own[-1]["code"] == "OK" and 100 <= len(own) - 1 < 300
    assert b"guessed" not in b"".join(each.read_bytes() for each in listing(tmp_path / "audit"))
