"""Certificates that are replaced while the front runs."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from tests.support.pki import certificates
from tests.support.wire import SAY, Seen, our_server, until

from stillhouse.edge.assembly.parts import Parts
from stillhouse.edge.assembly.servers import elsewhere
from stillhouse.edge.certificates import Files, Front, Shown, towards
from stillhouse.edge.sections.places import LargerBackends
from stillhouse.edge.status import RpcError
from stillhouse.edge.wire.client import Channel
from stillhouse.errors import UsageError


def made(folder: Path) -> Path:
    folder.mkdir()
    certificates(folder)
    return folder


def test_new_connections_are_shown_the_new_certificate(tmp_path: Path) -> None:
    first, second, live = made(tmp_path / "first"), made(tmp_path / "second"), tmp_path / "live"
    shutil.copytree(first, live)
    front = Front(Files(live / "server.crt", live / "server.key"), None)

    async def ask(address: str, authority: Path) -> bytes:
        channel = Channel(address, tls=towards(authority / "authority.crt", None))
        try:
            return (await channel.unary(SAY, b"x", timeout_s=5)).message
        finally:
            await channel.close()

    async def work() -> None:
        async with our_server(Seen(), tls=front.context) as (_, address):
            assert await ask(address, first) == b"x"
            # Whoever replaces them one after the other, or writes them in pieces, is met in between: the former pair stays whole.
            whole = (second / "server.crt").read_bytes()
            for piece in (b"", whole[:100], whole[: len(whole) // 2], whole):
                (live / "server.crt").write_bytes(piece)
                front.renew()
                assert await ask(address, first) == b"x"
            shutil.copy(second / "server.key", live / "server.key")
            front.renew()
            assert await ask(address, second) == b"x"
            with pytest.raises(RpcError, match="verify failed"):
                await ask(address, first)
            # One that is half there is not used, and what was shown before stays.
            (live / "server.key").write_text("half a key")
            front.renew()
            assert await ask(address, second) == b"x"

    asyncio.run(asyncio.wait_for(work(), 60))


def test_the_end_of_a_connection_is_nothing_to_warn_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = made(tmp_path / "pki")
    front = Front(Files(folder / "server.crt", folder / "server.key"), None)

    async def work() -> None:
        async with our_server(Seen(), tls=front.context) as (server, address):
            for ends in ("client", "server"):
                channel = Channel(address, tls=towards(folder / "authority.crt", None))
                assert (await channel.unary(SAY, b"x", timeout_s=5)).message == b"x"
                if ends == "server":
                    await server.drain(1.0)
                await channel.close()
                await until(lambda: server.connections == 0)

    asyncio.run(asyncio.wait_for(work(), 60))
    assert not [each for each in caplog.records if each.name == "asyncio" and each.levelname == "WARNING"], caplog.text


def test_a_client_without_a_certificate_is_refused_where_one_is_asked_for(tmp_path: Path) -> None:
    folder = made(tmp_path / "pki")
    front = Front(Files(folder / "server.crt", folder / "server.key"), folder / "authority.crt")

    async def work() -> None:
        async with our_server(Seen(), tls=front.context) as (_, address):
            for own, answered in ((None, False), (Files(folder / "edge-1.crt", folder / "edge-1.key"), True)):
                channel = Channel(address, tls=towards(folder / "authority.crt", own))
                if answered:
                    assert (await channel.unary(SAY, b"x", timeout_s=5)).message == b"x"
                else:
                    with pytest.raises(RpcError):
                        await channel.unary(SAY, b"x", timeout_s=5)
                await channel.close()

    asyncio.run(asyncio.wait_for(work(), 60))


def test_files_that_do_not_belong_together_are_told(tmp_path: Path) -> None:
    one, other = made(tmp_path / "one"), made(tmp_path / "other")
    context = ssl.create_default_context()
    with pytest.raises(UsageError, match="cannot be used"):
        Files(one / "server.crt", other / "server.key").load(context)
    with pytest.raises(UsageError, match="authority"):
        towards(tmp_path / "none", None)


def test_a_key_with_a_password_is_told_and_nobody_is_asked_for_it(tmp_path: Path) -> None:
    """OpenSSL would ask at the terminal, and everybody's requests would wait for an answer."""
    folder = made(tmp_path / "pki")
    key = serialization.load_pem_private_key((folder / "server.key").read_bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    (folder / "server.key").write_bytes(locked)
    with pytest.raises(UsageError, match="cannot be used"):
        Front(Files(folder / "server.crt", folder / "server.key"), None)


def test_a_token_is_shown_and_its_successor_once_it_is_there(tmp_path: Path) -> None:
    folder, file, seen = made(tmp_path / "pki"), tmp_path / "token", Seen()
    front = Front(Files(folder / "server.crt", folder / "server.key"), None)
    with pytest.raises(UsageError, match="token"):
        Shown(file)
    file.write_text("first\n")
    shown = Shown(file)

    async def work() -> None:
        async with our_server(seen, tls=front.context) as (_, address):
            tls = towards(folder / "authority.crt", None)
            channel = Channel(address, tls=tls, token=shown)
            try:
                for content, told in ((None, "first"), ("second", "second"), ("", "second"), ("two\nlines", "second")):
                    if content is not None:
                        file.write_text(content)
                    await channel.unary(SAY, b"x", metadata=(("x-key", "1"),), timeout_s=5)
                    assert dict(seen.metadata)["authorization"] == f"Bearer {told}"
                    assert dict(seen.metadata)["x-key"] == "1"
                file.unlink()
                await channel.unary(SAY, b"x", timeout_s=5)
                assert dict(seen.metadata)["authorization"] == "Bearer second"
            finally:
                await channel.close()
            # A certificate that names another is refused, though the address is right.
            other = Channel(address, tls=tls, server_name="big.models.svc")
            with pytest.raises(RpcError, match="verify failed"):
                await other.unary(SAY, b"x", timeout_s=5)
            await other.close()

    asyncio.run(asyncio.wait_for(work(), 60))


@pytest.mark.parametrize("how", ["renamed", "linked", "written at once"])
def test_a_token_is_read_once_and_its_successor_of_the_same_size_at_the_next_call(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path] = []
    real = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda self, **how: reads.append(self) or real(self, **how))
    for name in ("first", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "token").write_text(name)
    file = tmp_path / "token"  # as a Secret's volume has it: a link, behind another one that is swapped
    file.symlink_to("data/token")
    (tmp_path / "data").symlink_to("first")
    (tmp_path / "next").symlink_to("other")
    still = how != "written at once"
    now = time.time_ns() + 10**10 if still else 0
    shown = Shown(file, lambda: now)
    assert [shown() for _ in range(3)] == ["first"] * 3
    assert len(reads) == (1 if still else 4), "what was written just now may be written again within one tick of its clock"
    match how:
        case "renamed":
            (tmp_path / "other" / "token").rename(tmp_path / "first" / "token")
        case "linked":
            (tmp_path / "next").rename(tmp_path / "data")
        case _:
            (tmp_path / "first" / "token").write_text("other")
    assert shown() == "other"


def test_a_gateway_of_a_configuration_shows_its_token_to_the_larger_model(tmp_path: Path) -> None:
    folder, file, seen = made(tmp_path / "pki"), tmp_path / "token", Seen()
    front = Front(Files(folder / "server.crt", folder / "server.key"), None)
    file.write_text("a-token-of-the-edge")

    async def work() -> None:
        async with our_server(seen, tls=front.context) as (_, address):
            told = {
                "kind": "backends",
                "backends": {address: 1.0},
                "model": "big",
                "tls": True,
                "authority": folder / "authority.crt",
                "token": file,
            }
            for name, answers in (("", True), ("big.models.svc", False)):
                given = LargerBackends.model_validate(
                    {"kind": "backends", "backends": {address: 1.0}, "serverName": name, **told}
                )
                pool = await elsewhere(given, 1 << 20, Parts())
                if answers:
                    assert (await pool.unary(SAY, b"x")).message == b"x"
                    assert dict(seen.metadata)["authorization"] == "Bearer a-token-of-the-edge"
                else:
                    with pytest.raises(RpcError, match="verify failed"):
                        await pool.unary(SAY, b"x")
                await pool.close()

    asyncio.run(asyncio.wait_for(work(), 60))
