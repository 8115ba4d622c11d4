"""Token ids instead of texts: an edge that tokenises gets the very same answers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
from tests.support.triton import Site
from tests.triton.test_inference import TEXTS

from stillhouse.edge.oip.encodings import add_encoded, made_plain
from stillhouse.edge.oip.messages import message
from stillhouse.edge.oip.tensors import outputs_of
from stillhouse.inference.encodings import Encoding
from stillhouse.inference.engine import Engine
from stillhouse.inference.preprocess.base import Around
from stillhouse.inference.preprocess.chain import Chain, load_chain
from stillhouse.triton.server import ServerHandle

PLAIN = Encoding()


@pytest.fixture(scope="module")
def steps(site: Site) -> Chain:
    data = {"version": 1, "steps": [{"kind": "tokenise", "maxLength": site.signature.max_length}]}
    return load_chain(data, Around(site.artifact))


def ask(server: ServerHandle, tensors: dict[str, Any], encoding: Encoding = PLAIN) -> Any:
    request = message("ModelInferRequest")(model_name="tiny")
    for name, tensor in tensors.items():
        add_encoded(request, name, tensor, PLAIN if tensor.dtype == object else encoding)
    made_plain(request)
    request.outputs.add(name="EMBEDDING")
    with grpc.insecure_channel(server.address) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        answer = call(request.SerializeToString(), timeout=10)
    return outputs_of(message("ModelInferResponse").FromString(answer))["EMBEDDING"]


def texts(*values: str) -> dict[str, Any]:
    return {"TEXT": np.array([[value.encode()] for value in values], dtype=object)}


def test_the_answer_to_tokens_is_the_texts_bit_for_bit(server: ServerHandle, steps: Chain) -> None:
    for batch in (*([text] for text in TEXTS), TEXTS, TEXTS * 5):
        wanted = ask(server, texts(*batch))
        tokens = steps.run(texts(*batch))
        assert ask(server, tokens).tobytes() == wanted.tobytes()
        assert ask(server, tokens, Encoding("", zstd=True)).tobytes() == wanted.tobytes()
        if len(batch) == 1:
            assert ask(server, {"input_ids": tokens["input_ids"]}).tobytes() == wanted.tobytes()


def test_tokens_and_texts_share_batches(server: ServerHandle, steps: Chain, engine: Engine) -> None:
    wanted = engine.embed(TEXTS * 10)

    def one(position: int) -> Any:
        given = texts(TEXTS[position % len(TEXTS)])
        return ask(server, steps.run(given) if position % 2 else given)

    with ThreadPoolExecutor(16) as pool:
        found = np.concatenate(list(pool.map(one, range(len(TEXTS) * 10))))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


IDS, ONES = np.array([[2, 5, 3]]), np.ones((1, 3), np.int64)


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"input_ids": np.array([[2, 99_999, 3]])}, r"input_ids\[0\]"),
        ({"input_ids": np.array([[2, -1, 3]])}, r"input_ids\[0\]"),
        ({"input_ids": np.full((1, 33), 5)}, "33 tokens"),
        ({"input_ids": IDS, "attention_mask": np.array([[1, 0, 1]])}, r"attention_mask\[0\]"),
        ({"input_ids": IDS, "attention_mask": np.array([[0, 0, 0]])}, r"attention_mask\[0\]"),
        ({"input_ids": IDS, "attention_mask": np.array([[2, 1, 0]])}, r"attention_mask\[0\]"),
        ({"input_ids": IDS, "attention_mask": np.ones((1, 2), np.int64)}, "attention_mask"),
        ({"input_ids": np.empty((1, 0), np.int64)}, "input_ids"),
        ({"attention_mask": ONES}, "texts or token ids"),
        ({**texts("a"), "input_ids": IDS}, "texts or token ids"),
        ({**texts("a"), "attention_mask": ONES}, "texts or token ids"),
        ({"input_ids": IDS.astype(np.int32)}, "input_ids"),
    ],
)
def test_wrong_tokens_are_that_requests_error(server: ServerHandle, tensors: dict[str, Any], says: str) -> None:
    with pytest.raises(grpc.RpcError, match=says) as caught:
        ask(server, tensors)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert ask(server, texts("a")).shape == (1, 16)
