"""The guard joined to the protocol: what is checked is what is read, what is masked no model sees, all is recorded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.cascades import SIGNATURE, ask_body, call

from stillhouse.edge.guard.audit.chain import Chain
from stillhouse.edge.guard.audit.inputs import Inputs
from stillhouse.edge.guard.audit.log import AuditLog
from stillhouse.edge.guard.audit.verify import verify
from stillhouse.edge.guard.patterns import Patterns, Rule
from stillhouse.edge.guard.shapes import Bounds
from stillhouse.edge.guarded import Audited, Guarded, Screen, model_of_signature
from stillhouse.edge.oip.messages import message
from stillhouse.edge.oip.tensors import inputs_of
from stillhouse.edge.status import Code, Refused, Reply, RpcError

RULES = (Rule("ticket", "mask", "TCK-[0-9]{4}"), Rule("iban", "refuse"))
ACCOUNT = "DE89 3704 0044 0532 0130 00"


class Model:
    """Notes what it is asked, and answers as a cascade does."""

    ready = True

    def __init__(self, error: RpcError | None = None) -> None:
        self.texts: list[list[str]] = []
        self._error = error

    async def infer(self, _: Any, body: bytes) -> Reply:
        if self._error is not None:
            raise self._error
        tensors = inputs_of(message("ModelInferRequest").FromString(body))
        self.texts.append([each.decode() for each in tensors["TEXT"].ravel().tolist()])
        response = message("ModelInferResponse")(model_name="m")
        response.parameters["leg"].string_param = "edge"
        response.parameters["confidence"].double_param = float("nan")
        response.parameters["threshold"].double_param = 0.5
        return Reply(response.SerializeToString())

    async def about(self, _: Any, body: bytes) -> Reply:
        return Reply(body)


def screen(**bounds: int) -> Screen:
    return Screen(model_of_signature(SIGNATURE, 8), Bounds(**bounds), Patterns(RULES))


def asked(guarded: Guarded, *bodies: bytes) -> list[Reply | RpcError]:
    async def work() -> list[Reply | RpcError]:
        found: list[Reply | RpcError] = []
        for body in bodies:
            try:
                found.append(await guarded.infer(call(), body))
            except RpcError as error:
                found.append(error)
        return found

    return asyncio.run(work())


def typed(texts: Sequence[str]) -> bytes:
    request = message("ModelInferRequest")(model_name="m")
    tensor = request.inputs.add(name="TEXT", datatype="BYTES", shape=[len(texts), 1])
    tensor.contents.bytes_contents.extend(text.encode() for text in texts)
    return bytes(request.SerializeToString())


@pytest.mark.parametrize("form", [ask_body, typed])
def test_what_is_masked_no_model_sees(form: Any) -> None:
    model, guard = Model(), screen()
    texts = ["see TCK-1234 and TCK-9999", "nothing here"]
    asked(Guarded("m", model, guard, None, lambda _: "a"), form(texts))

    assert model.texts == [["see [ticket] and [ticket]", "nothing here"]]
    assert guard.masked == {"ticket": 2}


def test_what_is_refused_no_model_is_asked_about() -> None:
    model, guard = Model(), screen(characters=40)
    shaped = message("ModelInferRequest").FromString(ask_body(["a"]))
    shaped.inputs[0].shape[0] = 1 << 62
    other = message("ModelInferRequest").FromString(ask_body(["a"]))
    other.inputs[0].datatype = "INT64"
    found = asked(
        Guarded("m", model, guard, None, lambda _: "a"),
        ask_body([ACCOUNT]),
        ask_body(["x" * 41]),
        ask_body(["a"] * 9),
        shaped.SerializeToString(),
        other.SerializeToString(),
        b"\xff\xff",
        ask_body(["fine"]),
    )

    assert model.texts == [["fine"]]
    errors = found[:-1]
    assert all(isinstance(error, RpcError) and error.code is Code.INVALID_ARGUMENT for error in errors)
    assert ACCOUNT not in str(errors[0])
    assert "iban" in str(errors[0])
    assert set(guard.refused) == {"TEXT", "inputs"}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=20), min_size=1, max_size=4), st.sampled_from([ask_body, typed]))
def test_what_needs_no_change_goes_on_byte_for_byte(texts: list[str], form: Any) -> None:
    texts = [text.replace("TCK", "").encode("utf-8", "ignore").decode() for text in texts]
    guard = Screen(model_of_signature(SIGNATURE, 8), Bounds(), Patterns([Rule("ticket", "mask", "TCK-[0-9]{4}")]))
    body = form(texts)
    assert guard.checked(body)[0] == body


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=120))
def test_no_body_makes_it_fail_otherwise(body: bytes) -> None:
    guard = screen()
    try:
        guard.checked(body)
    except RpcError as error:
        assert error.code is Code.INVALID_ARGUMENT


def test_each_inference_has_its_record_and_the_log_verifies(tmp_path: Path) -> None:
    audit = Audited(AuditLog(Chain(tmp_path / "log"), linger=0), Inputs(None), required=True)
    guarded = Guarded("m", Model(), screen(), audit, lambda _: "anna")
    down = Guarded("m", Model(RpcError(Code.UNAVAILABLE, "gone")), screen(), audit, lambda _: "ben")
    asked(guarded, ask_body(["see TCK-1234"]), ask_body([ACCOUNT]))
    asked(down, ask_body(["late"]))
    asyncio.run(audit.close())

    assert verify(tmp_path / "log").whole
    text = "".join(file.read_text() for file in sorted((tmp_path / "log").glob("*.jsonl")))
    records = [json.loads(line)["data"] for line in text.splitlines()]
    records = [each for each in records if "client" in each]
    assert [(each["client"], each["code"]) for each in records] == [
        ("anna", "OK"),
        ("anna", "INVALID_ARGUMENT"),
        ("ben", "UNAVAILABLE"),
    ]
    assert records[0]["leg"] == "edge"
    assert "confidence" not in records[0]  # it was none, and NaN is no JSON
    assert records[0]["inputs"]["TEXT"][0]["bytes"] == 12
    assert "TCK" not in text
    assert "DE89" not in text


@pytest.mark.parametrize("required", [True, False])
def test_without_a_log_only_who_requires_one_refuses(required: bool) -> None:
    audit = Audited(None, Inputs(None), required=required)
    (found,) = asked(Guarded("m", Model(), None, audit, lambda _: "a"), ask_body(["x"]))

    assert isinstance(found, Refused if required else Reply)
    assert audit.lost == 1
