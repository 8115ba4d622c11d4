"""What `--cloud mqtts://…` and its options come to."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from stillhouse.api.edge import Edge
from stillhouse.edge.mqtt.joined import Senders
from stillhouse.edge.sections.places import LargerMqtt
from stillhouse.entrypoints.edge.brokers import AtBroker, behind_broker
from stillhouse.entrypoints.edge.given import Given
from stillhouse.entrypoints.edge.others import at_address
from stillhouse.entrypoints.edge.remarks import missing
from stillhouse.errors import UsageError


def files(folder: Path, name: str) -> tuple[Path, Path]:
    user, password = folder / "user", folder / "password"
    user.write_text(name + "\n")
    password.write_text("secret")
    return user, password


def test_the_configuration_names_files_and_no_secret(tmp_path: Path) -> None:
    user, password = files(tmp_path, "press-7")
    made = at_address("big", "mqtt://broker:1883", Given(at_broker=AtBroker(user, password)))
    assert "secret" not in str(made)
    config = LargerMqtt.model_validate(made)
    assert (config.model, config.broker, config.device) == ("big", "mqtt://broker:1883", "press-7")
    assert (config.username, config.password) == (user, password)
    assert behind_broker("big", "mqtt://broker", None, AtBroker(user, password, device="other"))["device"] == "other"


def test_without_a_user_it_is_the_machine_s_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "hall 3/press")
    assert behind_broker("big", "mqtt://broker", None, AtBroker())["device"] == "hall-3-press"


def test_a_pod_has_a_name_of_its_own_where_the_configuration_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "search-main-gateway-5b8f4d-x2x4z")
    made = behind_broker("big", "mqtt://127.0.0.1:1", None, AtBroker(device="other"))
    senders = Senders()

    async def work() -> list[str]:
        for device in ("", "other"):
            await senders.pool_over(LargerMqtt.model_validate({**made, "device": device}), 1024).close()
        return [each.device for each in senders.seen()]

    assert asyncio.run(work()) == ["search-main-gateway-5b8f4d-x2x4z", "other"]


def test_what_a_cluster_has_in_secrets_is_asked_for_as_files(tmp_path: Path) -> None:
    cascade = {"larger": {"model": "big", "address": "mqtts://b:8883"}, "data": {"uri": "data:x"}, "escalationBudget": "5%"}
    edge = Edge.model_validate({"cascade": cascade, "broker": {"credentials": "user", "certificate": "pair"}})
    said = missing(edge, Given())
    assert [each.partition(":")[0] for each in said] == ["spec.edge.broker.credentials", "spec.edge.broker.certificate"]
    assert not missing(edge, Given(at_broker=AtBroker(*files(tmp_path, "me"), tmp_path / "pair.crt", tmp_path / "pair.key")))


@pytest.mark.parametrize(
    ("address", "given", "field"),
    [
        ("mqtt://me:secret@broker:1883", {}, "broker"),
        ("mqtt://broker:99999", {}, "broker"),
        ("mqtts://broker", {"authority": Path("nowhere")}, "authority"),
        ("mqtt://broker", {"authority": Path("nowhere")}, "broker"),
        ("mqtt://broker", {"at": AtBroker(username=Path("user"))}, "--cloud-username-file"),
        ("mqtts://broker", {"at": AtBroker(key=Path("key"))}, "--cloud-certificate"),
        ("mqtt://broker", {"at": AtBroker(Path("nowhere"), Path("nowhere"))}, "username"),
        ("mqtt://broker", {"at": AtBroker(device="a/b")}, "device"),
        ("grpc://cloud:8001", {"at": AtBroker(device="a")}, "--cloud-username-file"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_starts(address: str, given: dict[str, object], field: str) -> None:
    authority, at = given.get("authority"), given.get("at", AtBroker())
    with pytest.raises(UsageError) as caught:
        at_address("big", address, Given(cloud_authority=authority, at_broker=at))  # type: ignore[arg-type]
    assert field in str(caught.value.problem.field) and "secret" not in str(caught.value)
