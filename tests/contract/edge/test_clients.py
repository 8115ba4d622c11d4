"""Who asks, by tokens in a folder that changes while it is read."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from tests.support.gateway_process import gateway

from stillhouse.edge.guard.clients import Clients, bearer
from stillhouse.edge.guard.refusals import Refusal
from stillhouse.errors import UsageError

ONE, OTHER = b"one-token-of-a-good-length", b"another-token-just-as-long"


class Stage:
    def __init__(self, folder: Path, **tokens: bytes) -> None:
        self.now, self.folder = 100.0, folder
        for name, token in tokens.items():
            (folder / name).write_bytes(token + b"\n")
        self.clients = Clients(folder, lambda: self.now)

    def who(self, token: bytes | None, address: str = "10.0.0.1") -> str:
        found = self.clients.who(token, (), address)
        return found if isinstance(found, str) else found.status


def test_a_client_is_known_by_its_token(tmp_path: Path) -> None:
    stage = Stage(tmp_path, search=ONE, mobile=OTHER)
    assert (stage.who(ONE), stage.who(OTHER)) == ("search", "mobile")
    assert stage.who(b"one-token-of-a-good-lengtg") == stage.who(None) == stage.who(b"") == "UNAUTHENTICATED"


def test_without_tokens_a_client_is_its_certificate_or_its_address() -> None:
    clients = Clients(None)
    assert clients.who(None, ("edge-1", "edge-1.example"), "10.0.0.1") == "edge-1"
    assert clients.who(ONE, (), "10.0.0.1") == "10.0.0.1"


def test_new_tokens_are_known_and_old_ones_forgotten_while_it_runs(tmp_path: Path) -> None:
    stage = Stage(tmp_path, search=ONE)
    (tmp_path / "search").write_bytes(OTHER)
    assert stage.who(ONE) == "search", "it looks now and then"
    stage.now += 6
    assert (stage.who(OTHER), stage.who(ONE)) == ("search", "UNAUTHENTICATED")


def test_a_change_that_is_wrong_locks_nobody_out_and_is_told(tmp_path: Path) -> None:
    stage = Stage(tmp_path, search=ONE)
    (tmp_path / "mobile").write_bytes(b"short")
    stage.now += 6
    assert stage.who(ONE) == "search"
    assert "too short" in stage.clients.trouble
    (tmp_path / "mobile").write_bytes(OTHER)
    stage.now += 6
    assert stage.who(OTHER) == "mobile" and not stage.clients.trouble


def test_what_a_mounted_secret_looks_like(tmp_path: Path) -> None:
    real = tmp_path / "..2026_11_26"
    real.mkdir()
    (real / "search").write_bytes(ONE)
    (tmp_path / "..data").symlink_to(real)
    (tmp_path / "search").symlink_to(tmp_path / "..data" / "search")
    assert Stage(tmp_path).who(ONE) == "search"


def test_tokens_cannot_be_tried_out_and_who_has_one_does_not_notice(tmp_path: Path) -> None:
    stage = Stage(tmp_path, search=ONE)
    told = [stage.who(f"a-wrong-token-number-{number}".encode()) for number in range(100)]
    assert told.count("UNAUTHENTICATED") == 10 and told[-1] == "RESOURCE_EXHAUSTED"
    assert stage.who(ONE) == "search"
    assert stage.who(b"a-wrong-token-of-another", "10.0.0.2") == "UNAUTHENTICATED"
    stage.now += 3
    assert stage.who(b"a-wrong-token-later-on") == "UNAUTHENTICATED"


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        ({"a": b"short"}, "too short"),
        ({"a": ONE, "b": ONE}, "same token"),
        (None, "cannot be read"),
        ({"a": b"first-line-of-base64-64\nand-the-second"}, "byte 0x0a"),
        ({"a": "a-tökén-of-a-good-length".encode()}, "byte 0xc3"),
        ({"a\nb": ONE}, "a client's name is none"),
        ({"a\udcffb": ONE}, "a client's name is none"),
    ],
)
def test_tokens_that_are_none_are_refused_at_the_start(tmp_path: Path, tokens: dict[str, bytes] | None, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        if tokens is None:
            Clients(tmp_path / "none")
        else:
            Stage(tmp_path, **tokens)


@pytest.mark.parametrize(
    ("value", "token"), [(b"Bearer x y", b"x y"), (b"bearer  x ", b"x"), (b"Basic x", None), (b"x", None), (None, None)]
)
def test_the_header(value: bytes | None, token: bytes | None) -> None:
    assert bearer(value) == token


def test_a_refusal_never_repeats_the_token(tmp_path: Path) -> None:
    found = Stage(tmp_path, search=ONE).clients.who(b"secret-but-of-another-server", (), "10.0.0.1")
    assert isinstance(found, Refusal) and "secret" not in str(found)


def test_an_empty_folder_is_said_when_it_is_read_and_lets_nobody_in(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    clients = Clients(tmp_path, lambda: now[0])
    assert "there is no token in it; nobody may ask" in caplog.text
    assert not isinstance(clients.who(b"x" * 32, (), "10.0.0.1"), str)
    (tmp_path / "alice").write_bytes(b"x" * 32)
    now[0] = 10.0
    assert clients.who(b"x" * 32, (), "10.0.0.1") == "alice"


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
def test_what_a_stranger_has_compressed_is_not_inflated(tmp_path: Path, stream: bool) -> None:
    """64 KB of gzip are 64 MiB and a third of a second of everybody's time; who has a token may send them."""
    (tmp_path / "search").write_bytes(ONE)
    bomb = b"\x0a\x02no" + b"\x7a" + b"\0" * 1_000_000
    with (
        gateway("--model=echo=127.0.0.1:1", f"--tokens={tmp_path}") as running,
        grpc.insecure_channel(running.address, compression=grpc.Compression.Gzip) as channel,
    ):
        health = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert health(b"", timeout=10) is not None, "small ones are read, whoever sends them"

        def said(**metadata: str) -> str:
            method = "/inference.GRPCInferenceService/Model"
            with pytest.raises(grpc.RpcError) as caught:
                if stream:
                    list(channel.stream_stream(f"{method}StreamInfer")(iter([bomb]), timeout=10, metadata=[*metadata.items()]))
                    raise AssertionError("it is answered in the stream")
                channel.unary_unary(f"{method}Infer")(bomb, timeout=10, metadata=[*metadata.items()])
            return f"{caught.value.code().name}: {caught.value.details()}"

        assert said() == "RESOURCE_EXHAUSTED: a message of 65537 bytes or more, inflated: 65536 are allowed"
        if not stream:
            assert said(authorization=f"Bearer {ONE.decode()}").startswith("INVALID_ARGUMENT")
