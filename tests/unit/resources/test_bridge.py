"""What a bridge's objects must be: restricted, apart from all others, asking whom clients ask as that one wants it."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner
from tests.unit.resources.test_golden import MQTT, bridged

from stillhouse.entrypoints.bridge import main
from stillhouse.entrypoints.bridging import services_of
from stillhouse.resources import labels, names
from stillhouse.resources.bridge import bridge_secrets

GATEWAY = {"clients": {"tokens": "clients"}, "tls": {"secret": "front"}}


def one(objects: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = [each for each in objects if each["kind"] == kind]
    return found


def options(objects: list[dict[str, Any]]) -> dict[str, str]:
    (container,) = one(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    return {name: value for name, _, value in (each.partition("=") for each in container["args"])}


@pytest.mark.parametrize("objects", [bridged({"address": "mqtt://broker:1883"}), bridged(MQTT, GATEWAY)], ids=["plain", "all"])
def test_pods_keep_pod_security_restricted_and_are_nobody_elses(objects: list[dict[str, Any]]) -> None:
    deployment = one(objects, "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert {next(iter(each.keys() - {"name"})) for each in pod["volumes"]} <= {"emptyDir", "secret"}
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert all(each.get("readOnly") for each in container["volumeMounts"] if each["name"] != "tmp")
    marks = deployment["spec"]["template"]["metadata"]["labels"]
    for chosen in (labels.selector("search", "main"), labels.gateway("search", "main"), labels.building("search", "main")):
        assert not chosen.items() <= marks.items()
    policy = one(objects, "NetworkPolicy")["spec"]
    assert deployment["spec"]["selector"] == policy["podSelector"] == {"matchLabels": labels.bridge("search", "main")}
    for rule in policy["egress"]:
        ports = {each["port"] for each in rule["ports"]}
        assert "to" in rule or ports <= {53, 443, 6443}
    assert [rule["ports"][0]["port"] for rule in policy["ingress"]] == [8002]
    assert one(objects, "RoleBinding")["subjects"] == [
        {"kind": "ServiceAccount", "name": names.bridge("search"), "namespace": "models"}
    ]


def test_the_command_takes_what_it_is_told() -> None:
    (container,) = one(bridged(MQTT, GATEWAY), "Deployment")["spec"]["template"]["spec"]["containers"]
    places = [each["mountPath"] for each in container["volumeMounts"]]
    named = options(bridged(MQTT, GATEWAY))
    assert services_of((named["--slices"],))["search"].name == "search"
    files = [value for value in named.values() if value.startswith("/etc/")]
    assert len(files) == 7 and all(any(each.startswith(f"{place}/") for place in places) for each in files)
    # Every option is known: what is missing on this machine is the files.
    told = CliRunner().invoke(main, container["args"])
    assert told.exit_code == 2 and "No such option" not in told.output and "[Errno 2]" in told.output


def test_a_gateway_is_asked_with_its_token_and_over_its_tls_and_the_model_itself_without() -> None:
    asked = options(bridged(MQTT, GATEWAY))
    assert asked["--backend-name"] == "search.models.svc" and "--backend-tls" in asked
    assert asked["--backend-token"].endswith("/backendtoken/token")
    alone = options(bridged({"address": "mqtt://broker:1883"}))
    assert not [each for each in alone if each.startswith("--backend")]


def test_memory_bounds_what_is_under_way() -> None:
    for memory, most in (("64Mi", "4"), ("512Mi", "16"), ("64Gi", "256")):
        assert options(bridged({"address": "mqtt://broker:1883", "memory": memory}))["--at-once"] == most


def test_every_secret_is_looked_for_under_its_field() -> None:
    from stillhouse.api.broker import Mqtt

    found = bridge_secrets(Mqtt.model_validate(MQTT))
    assert [each.field.rpartition(".")[2] for each in found] == [name for name in MQTT if name not in ("address", "replicas")]
    assert len({each.folder for each in found}) == len(found)
