"""What a model takes: asked once for all who wait, kept, asked anew; and what holds while nobody tells."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.wire import run
from tritonclient.grpc import model_config_pb2, service_pb2

from stillhouse.edge.guard.patterns import Rule
from stillhouse.edge.guard.shapes import Bounds
from stillhouse.edge.oip.asked import inference_of
from stillhouse.edge.oip.configs import CONFIG
from stillhouse.edge.oip.encodings import add_encoded
from stillhouse.edge.oip.messages import message as oip
from stillhouse.edge.oip.tensors import inputs_of
from stillhouse.edge.screening.known import Known
from stillhouse.edge.screening.screen import Screen
from stillhouse.edge.screening.settings import ScreenSettings
from stillhouse.edge.status import Code, RpcError
from stillhouse.inference.encodings import Encoding


class Far:
    """A backend: what it tells, whether it does, and how often it was asked for metadata."""

    def __init__(self) -> None:
        self.asked = 0
        self.inputs: list[tuple[str, str, list[int]]] = [("x", "FP32", [-1, 3])]
        self.optional = self.task = ""
        self.gate = asyncio.Event()
        self.gate.set()
        self.failing: Code | None = None
        self.config: Code | None = None
        self.now = 100.0
        self.stamp = 0

    async def ask(self, method: str, body: bytes) -> bytes:
        if method.endswith("ModelMetadata"):
            self.asked += 1
            await self.gate.wait()
            if self.failing is not None:
                raise RpcError(self.failing, "not now")
            response = service_pb2.ModelMetadataResponse(name="m")
            for name, datatype, shape in self.inputs:
                response.inputs.add(name=name, datatype=datatype, shape=shape)
            return bytes(response.SerializeToString())
        if self.config is not None:
            raise RpcError(self.config, "no such thing")
        config = service_pb2.ModelConfigResponse()
        config.config.max_batch_size = 8
        if self.task:
            config.config.parameters["stillhouse.task"].string_value = self.task
        for name, _, _ in self.inputs:
            config.config.input.add(name=name, optional=name in self.optional.split(), data_type=model_config_pb2.TYPE_FP32)
        return bytes(config.SerializeToString())

    def known(self, settings: ScreenSettings | None = None) -> Known:
        return Known("m", self.ask, settings or ScreenSettings(), lambda: self.now, lambda: self.stamp)


def request(shape: tuple[int, ...] = (1, 3), *, raw: bytes | None = None, datatype: str = "FP32", name: str = "x") -> bytes:
    message = service_pb2.ModelInferRequest(model_name="m")
    message.inputs.add(name=name, datatype=datatype, shape=shape)
    message.raw_input_contents.append(b"\0" * 12 if raw is None else raw)
    return bytes(message.SerializeToString())


async def screened(screen: Screen, body: bytes) -> Any:
    return await screen.screen(body, inference_of(body))


async def refused(screen: Screen, body: bytes) -> RpcError:
    with pytest.raises(RpcError) as caught:
        await screened(screen, body)
    return caught.value


def test_all_who_wait_have_one_question_also_where_one_of_them_leaves() -> None:
    async def work() -> None:
        far = Far()
        far.gate.clear()
        known = far.known()
        asking = [asyncio.create_task(known.model()) for _ in range(20)]
        await asyncio.sleep(0)
        asking[0].cancel()
        await asyncio.sleep(0)
        far.gate.set()
        found = list(await asyncio.gather(*asking, return_exceptions=True))[1:]
        assert far.asked == 1 and len(set(map(id, found))) == 1
        model = found[0]
        assert not isinstance(model, BaseException) and model is not None
        assert model.inputs["x"].shape == (-1, 3) and model.max_batch == 8

    run(work())


def test_while_nobody_tells_requests_are_refused_and_the_backend_is_not_asked_for_each() -> None:
    async def work() -> None:
        far = Far()
        far.failing = Code.UNAVAILABLE
        screen = Screen(far.known(), ScreenSettings())
        for _ in range(5):
            error = await refused(screen, request())
            assert error.code is Code.UNAVAILABLE and error.pushback == "1000"
        assert far.asked == 1 and screen.refused == {"unknown": 5} and "not now" in screen.known.trouble
        far.now += 1.5
        assert (await refused(screen, request())).code is Code.UNAVAILABLE
        far.failing = None
        far.stamp = 1  # somebody has come: no need to wait
        await screened(screen, request())
        assert far.asked == 3 and not screen.known.trouble

    run(work())


def test_while_nobody_tells_requests_go_on_where_that_was_chosen_and_patterns_hold() -> None:
    async def work() -> None:
        far = Far()
        far.failing = Code.UNAVAILABLE
        chosen = ScreenSettings(patterns=(Rule("email", "mask"),), unknown="forward")
        screen = Screen(far.known(chosen), chosen)
        body = request()
        assert (await screened(screen, body)).body == body
        assert (await refused(screen, request(raw=b"\0"))).code is Code.INVALID_ARGUMENT
        assert (await refused(screen, request((2**62, 2**62)))).code is Code.INVALID_ARGUMENT
        assert (await refused(screen, request(datatype="FP8"))).code is Code.INVALID_ARGUMENT
        text = b"a@example.org"
        found = await screened(screen, request((1, 1), raw=len(text).to_bytes(4, "little") + text, datatype="BYTES", name="t"))
        assert found.request.raw_input_contents[0] == b"\x07\0\0\0[email]" and found.masked == {"email": 1}

    run(work())


def test_who_tells_nothing_in_time_is_nobody() -> None:
    async def work() -> None:
        far = Far()
        far.gate.clear()
        screen = Screen(far.known(ScreenSettings(patience_s=0.01)), ScreenSettings())
        assert (await refused(screen, request())).code is Code.UNAVAILABLE
        assert "0.01 s" in screen.known.trouble

    run(work())


def test_what_is_kept_is_asked_anew_when_backends_change_and_nobody_waits_for_it() -> None:
    async def work() -> None:
        far = Far()
        known = far.known()
        before = await known.model()
        far.now, far.stamp = far.now + 5, 1
        far.gate.clear()
        assert await known.model() is before and await known.model() is before
        await asyncio.sleep(0)
        assert far.asked == 2
        far.gate.set()
        while known._asking is not None:
            await asyncio.sleep(0)
        assert await known.model() is not before and far.asked == 2

    run(work())


def test_requests_that_fit_nothing_do_not_become_questions_of_the_backend() -> None:
    async def work() -> None:
        far = Far()
        screen = Screen(far.known(), ScreenSettings())
        await screened(screen, request())
        for number in range(50):
            assert (await refused(screen, request((1, 4 + number), raw=b""))).code is Code.INVALID_ARGUMENT
        assert far.asked == 1, "within a second of the last answer"
        far.now += 1.5
        far.inputs = [("x", "FP32", [-1, 4])]
        await screened(screen, request((1, 4), raw=b"\0" * 16))
        assert far.asked == 2
        far.now += 1.5
        assert "does not fill" in (await refused(screen, request((1, 4), raw=b""))).message
        assert far.asked == 2, "no revision explains contents that are too short"

    run(work())


def test_a_server_that_has_no_configuration_and_one_that_contradicts_itself() -> None:
    async def work() -> None:
        far = Far()
        far.config = Code.UNIMPLEMENTED
        screen = Screen(far.known(ScreenSettings(rows=2)), ScreenSettings())
        await screened(screen, request((2, 3), raw=b"\0" * 24))
        assert "1 to 2" in (await refused(screen, request((3, 3), raw=b"\0" * 36))).message
        far.inputs = [("x", "FP8", [-1, 3])]
        far.now += 2
        far.stamp = 1
        await screened(screen, request())
        while screen.known._asking is not None:
            await asyncio.sleep(0)
        assert "FP8" in screen.known.trouble
        await screened(screen, request())

    run(work())


def test_optional_inputs_and_the_numbers_of_the_table() -> None:
    async def work() -> None:
        far = Far()
        far.inputs.append(("y", "FP32", [-1, 1]))
        far.optional = "y"
        model = await far.known().model()
        assert model is not None and model.required == {"x"}

    run(work())
    for name in ("ModelConfig", "ModelInput", "ModelParameter"):
        theirs = getattr(model_config_pb2, name).DESCRIPTOR.fields_by_name
        for field in CONFIG.message(name).DESCRIPTOR.fields:
            assert (theirs[field.name].number, theirs[field.name].type) == (field.number, field.type)


@pytest.mark.parametrize("task", ["image-classification", "", "sentence-embedding"])
def test_an_image_as_a_file_is_no_text(task: str) -> None:
    async def work() -> None:
        far = Far()
        far.inputs, far.task = [("file", "BYTES", [-1, 1])], task
        image = request((1, 1), raw=packed(b"\x89PNG\r\n" + b"x" * 500), datatype="BYTES", name="file")
        long = request((1, 1), raw=packed(b"x" * 500), datatype="BYTES", name="file")
        small = ScreenSettings(Bounds(characters=100))
        screen = Screen(far.known(small), small)
        await screened(screen, image)
        if not task.startswith("image"):
            assert "500 characters" in (await refused(screen, long)).message, "what can be read is a text"
            strict = ScreenSettings(patterns=(Rule("email", "mask"),))
            assert "no UTF-8" in (await refused(Screen(far.known(strict), strict), image)).message

    run(work())


def test_without_a_configuration_nobody_says_which_inputs_may_be_missing() -> None:
    async def work() -> None:
        far = Far()
        far.config = Code.UNIMPLEMENTED
        far.inputs = [("x", "FP32", [-1, 3]), ("y", "FP32", [-1, 1])]
        await screened(Screen(far.known(), ScreenSettings()), request())

    run(work())


def packed(*texts: bytes) -> bytes:
    return b"".join(len(each).to_bytes(4, "little") + each for each in texts)


def test_who_sends_token_ids_does_not_get_by_the_patterns() -> None:
    async def work() -> None:
        far = Far()
        far.inputs = [("text", "BYTES", [-1, 1]), ("ids", "INT64", [-1, 2])]
        far.optional = "text ids"
        ids = request((1, 2), raw=b"\0" * 16, datatype="INT64", name="ids")
        await screened(Screen(far.known(), ScreenSettings()), ids)
        chosen = ScreenSettings(patterns=(Rule("email", "refuse"),))
        screen = Screen(far.known(chosen), chosen)
        assert "texts are looked at" in (await refused(screen, ids)).message and screen.refused == {"pattern": 1}
        await screened(screen, request((1, 1), raw=packed(b"fine"), datatype="BYTES", name="text"))

    run(work())


def test_large_requests_are_masked_as_small_ones_are() -> None:
    async def work() -> None:
        far = Far()
        far.inputs = [("text", "BYTES", [-1, 1])]
        chosen = ScreenSettings(patterns=(Rule("email", "mask"), Rule("no", "refuse", "forbidden")))
        screen = Screen(far.known(chosen), chosen)
        texts = [b"x" * 90_000, b"jane@example.org", *[b"y" * 90_000] * 3]
        found = await screened(screen, request((5, 1), raw=packed(*texts), datatype="BYTES", name="text"))
        assert found.masked == screen.masked == {"email": 1}
        assert found.request.raw_input_contents[0] == packed(texts[0], b"[email]", *texts[2:])
        texts[1] = b"forbidden"
        assert "'no'" in (await refused(screen, request((5, 1), raw=packed(*texts), datatype="BYTES", name="text"))).message

    run(work())


def test_what_travels_smaller_is_held_to_the_models_words_as_what_it_is() -> None:
    async def work() -> None:
        far = Far()
        screen = Screen(far.known(), ScreenSettings())
        message = oip("ModelInferRequest")(model_name="m")
        add_encoded(message, "x", np.array([[0.5, 1, 2]], np.float32), Encoding.parse("fp16", "x"))
        found = await screened(screen, message.SerializeToString())
        assert inputs_of(inference_of(found.body))["x"].tolist() == [[0.5, 1, 2]]
        message.inputs[0].parameters["stillhouse_datatype"].string_param = "FP8"
        assert (await refused(screen, message.SerializeToString())).code is Code.INVALID_ARGUMENT
        assert screen.refused == {"encoding": 1}

    run(work())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="@", exclude_categories=["Cs"]), max_size=12), min_size=1, max_size=4))
def test_what_needs_no_change_goes_on_byte_for_byte(texts: list[str]) -> None:
    async def work() -> None:
        far = Far()
        far.inputs = [("t", "BYTES", [-1, 1])]
        chosen = ScreenSettings(patterns=(Rule("email", "mask"),))
        body = request((len(texts), 1), raw=packed(*(each.encode() for each in texts)), datatype="BYTES", name="t")
        assert (await screened(Screen(far.known(chosen), chosen), body)).body == body

    run(work())
