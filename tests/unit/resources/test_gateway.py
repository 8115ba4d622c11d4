"""What a gateway's objects must be: restricted, apart from the model's, and with a configuration that the gateway reads."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.api_objects import complete
from tests.unit.resources.test_golden import BETWEEN, CLASSES, EDGE, INDEX, PIPELINE, SETTINGS, THREE, fronted

from stillhouse.api.load import parse
from stillhouse.clients.store.local import LocalStore
from stillhouse.edge.config import read
from stillhouse.edge.sections.places import Engine, LargerBackends, LargerMqtt, LargerSlices, Lower, Slices
from stillhouse.planning.upper import UPPER
from stillhouse.resources import labels, names
from stillhouse.resources.gateway import CONFIG, gateway_workload
from stillhouse.resources.wanted import Between, Gateway, Owner

CASCADE = "sha256:" + "d" * 64
OWNER = Owner("m" * 40, "models", "uid")
DAEMON = {"run": {"kind": "DaemonSet"}}


def one(objects: list[dict[str, Any]], kind: str, component: str = "gateway") -> dict[str, Any]:
    (found,) = [each for each in objects if each["kind"] == kind and each["metadata"]["labels"][labels.COMPONENT] == component]
    return found


def workload(edge: dict[str, Any], cascade: str | None = None, **more: Any) -> dict[str, Any]:
    objects = fronted(edge, cascade, **more)
    return one(objects, "DaemonSet" if edge.get("run") else "Deployment")


def text(body: dict[str, Any]) -> str:
    return str(body["spec"]["template"]["metadata"]["annotations"][CONFIG])


@pytest.mark.parametrize("base", ["text", "class"])
@pytest.mark.parametrize("kind", ["Deployment", "DaemonSet"])
def test_every_field_reaches_a_configuration_that_the_gateway_reads(tmp_path: Path, base: str, kind: str) -> None:
    spec = parse(complete(base)).spec
    assert spec.edge is not None
    run = spec.edge.run.model_copy(update={"kind": kind})
    spec = spec.model_copy(update={"edge": spec.edge.model_copy(update={"run": run})})
    body = gateway_workload(OWNER, Gateway(spec, "m-1", "sha256:" + "a" * 64, "int8", CASCADE), SETTINGS)
    (tmp_path / "gateway.json").write_text(text(body))
    config = read(tmp_path / "gateway.json")
    pod = body["spec"]["template"]["spec"]
    mounted = [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]]
    files = [config.clients.tokens, config.cascade and config.cascade.folder, config.away.queue and config.away.queue.folder]
    files += [config.tls.certificate, config.tls.clientAuthority] if config.tls else []
    files += [config.guard.audit.folder, config.guard.audit.key] if config.guard and config.guard.audit else []
    files += [config.edge.folder] if isinstance(config.edge, Engine) else []
    named = [str(each) for each in files if each]
    assert len(named) > (3 if base == "text" else 0)
    for file in named:
        assert any(file == place or file.startswith(f"{place}/") for place in mounted), file
    assert len({volume["name"] for volume in pod["volumes"]}) == len(pod["volumes"])
    assert {volume["name"] for volume in pod["volumes"]} == {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}


def test_artifacts_are_where_the_store_has_them(tmp_path: Path) -> None:
    (tmp_path / "gateway.json").write_text(text(workload({**DAEMON, "cascade": EDGE["cascade"]}, CASCADE, index=INDEX)))
    config = read(tmp_path / "gateway.json")
    store = LocalStore(Path(f"/claims/{SETTINGS.store_claim}/store"))
    assert isinstance(config.edge, Engine) and config.cascade is not None
    assert config.edge.folder == store.objects.path("sha256:" + "a" * 64)
    assert config.cascade.folder == store.objects.path(CASCADE)


def test_a_changed_configuration_is_a_changed_template_and_the_same_one_is_not() -> None:
    plain, again = workload({}), workload({})
    assert plain == again
    limited = workload({"clients": {"rate": 5}})
    assert limited["spec"]["template"] != plain["spec"]["template"]
    assert limited["spec"]["selector"] == plain["spec"]["selector"]


@pytest.mark.parametrize("edge", [EDGE, {**EDGE, **DAEMON}])
def test_pods_keep_pod_security_restricted(edge: dict[str, Any]) -> None:
    pod = workload(edge, CASCADE, index=INDEX)["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    kinds = {next(iter(volume.keys() - {"name"})) for volume in pod["volumes"]}
    assert kinds <= {"persistentVolumeClaim", "emptyDir", "secret", "downwardAPI"}
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["resources"]["limits"].keys() == {"cpu", "memory"}
    assert all(mount.get("readOnly") for mount in container["volumeMounts"] if mount["name"] not in ("tmp", "data"))
    assert pod["terminationGracePeriodSeconds"] > container["lifecycle"]["preStop"]["sleep"]["seconds"] + 30


def test_what_is_on_a_claim_has_one_gateway_at_a_time() -> None:
    queued = {**EDGE, "away": {"policy": "queue"}}
    for edge, claim in (({**queued, "run": {"replicas": 1, "claim": "mine"}}, "mine"), (queued, None)):
        body = one(fronted(edge, CASCADE, index=INDEX), "Deployment")
        volumes = {each["name"]: each for each in body["spec"]["template"]["spec"]["volumes"]}
        folder = json.loads(text(body))["away"]["queue"]["folder"]
        if claim:
            assert volumes["data"] == {"name": "data", "persistentVolumeClaim": {"claimName": "mine"}}
            assert body["spec"]["strategy"] == {"type": "Recreate"} and body["spec"]["replicas"] == 1
            assert folder == "/data/search/queue", "of a claim of two models each has its own"
        else:
            assert "emptyDir" in volumes["data"] and body["spec"]["strategy"]["type"] == "RollingUpdate"
            assert folder == "/data/queue"
    nothing = one(fronted({"run": {"replicas": 1, "claim": "mine"}}, None), "Deployment")
    assert nothing["spec"]["strategy"]["type"] == "RollingUpdate", "it writes nothing"
    assert "data" not in {each["name"] for each in nothing["spec"]["template"]["spec"]["volumes"]}


def test_a_larger_model_beside_is_asked_as_its_gateway_wants_it(tmp_path: Path) -> None:
    edge = {**EDGE, "backendAuthority": "ca", "backendToken": "mine"}
    body = one(fronted(edge, CASCADE, index=INDEX), "Deployment")
    (tmp_path / "gateway.json").write_text(text(body))
    config = read(tmp_path / "gateway.json")
    assert config.cascade is not None and isinstance(config.cascade.larger, LargerSlices)
    larger = config.cascade.larger
    assert larger.tls and larger.serverName == "big.models.svc"
    mounts = {each["mountPath"]: each["name"] for each in body["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]}
    volumes = {each["name"]: each.get("secret", {}).get("secretName") for each in body["spec"]["template"]["spec"]["volumes"]}
    assert larger.token is not None and larger.authority is not None
    assert volumes[mounts[str(larger.token.parent)]] == "mine" and larger.token.name == "token"
    assert volumes[mounts[str(larger.authority.parent)]] == "ca" and larger.authority.name == "ca.crt"
    plain = json.loads(text(one(fronted(EDGE, CASCADE, index=INDEX), "Deployment")))["cascade"]["larger"]
    assert plain["tls"] is False and "token" not in plain and "serverName" not in plain


def test_a_larger_model_behind_a_broker_is_asked_under_each_pods_own_name(tmp_path: Path) -> None:
    larger = {"model": "big", "address": "mqtts://broker.example:8884"}
    shown = {"credentials": "user", "certificate": "pair"}
    edge = {**EDGE, "cascade": {**EDGE["cascade"], "larger": larger}, "backendAuthority": "ca", "broker": shown}
    objects = fronted(edge, CASCADE, index=INDEX)
    body = one(objects, "Deployment")
    (tmp_path / "gateway.json").write_text(text(body))
    config = read(tmp_path / "gateway.json")
    assert config.cascade is not None and isinstance(config.cascade.larger, LargerMqtt)
    at = config.cascade.larger
    assert (at.model, at.broker, at.device) == ("big", "mqtts://broker.example:8884", "")
    pod = body["spec"]["template"]["spec"]
    mounts = {each["mountPath"]: each["name"] for each in pod["containers"][0]["volumeMounts"]}
    volumes = {each["name"]: each.get("secret", {}).get("secretName") for each in pod["volumes"]}
    files = (at.authority, at.certificate, at.key, at.username, at.password)
    assert [(volumes[mounts[str(each.parent)]], each.name) for each in files if each] == [
        ("ca", "ca.crt"), ("pair", "tls.crt"), ("pair", "tls.key"), ("user", "username"), ("user", "password"),
    ]  # fmt: skip
    assert "hostname" not in pod, "a pod's name is its own"
    ports = [rule["ports"] for rule in one(objects, "NetworkPolicy")["spec"]["egress"]]
    assert [{"port": 8884, "protocol": "TCP"}] in ports
    plain = {**edge, "cascade": {**edge["cascade"], "larger": {**larger, "address": "mqtt://broker:1883"}}, "broker": {}}
    made = json.loads(text(one(fronted(plain, CASCADE, index=INDEX), "Deployment")))["cascade"]["larger"]
    assert made == {"kind": "mqtt", "model": "big", "broker": "mqtt://broker:1883", "device": ""}


def test_a_token_is_given_where_slices_are_read_and_nowhere_else() -> None:
    far = {"cascade": {**EDGE["cascade"], "larger": {"model": "big", "address": "grpcs://cloud:443"}}}
    for edge, cascade, token in (
        ({}, None, True), (DAEMON, None, False), ({**DAEMON, **far}, CASCADE, False),
        ({**DAEMON, "cascade": EDGE["cascade"]}, CASCADE, True), (far, CASCADE, True),
    ):  # fmt: skip
        more = {"index": INDEX} if cascade else {}
        objects = fronted(edge, cascade, **more)
        body = one(objects, "DaemonSet" if edge.get("run") else "Deployment")
        assert body["spec"]["template"]["spec"]["automountServiceAccountToken"] is token
        assert bool([each for each in objects if each["kind"] == "RoleBinding"]) is token
        ports = {port["port"] for rule in one(objects, "NetworkPolicy")["spec"]["egress"] for port in rule["ports"]}
        assert (6443 in ports) is token


def test_nobodys_selector_chooses_the_others_pods() -> None:
    objects = fronted(EDGE, CASCADE, index=INDEX)
    deployments = {each["metadata"]["name"]: each for each in objects if each["kind"] == "Deployment"}
    marks = {name: each["spec"]["template"]["metadata"]["labels"] for name, each in deployments.items()}
    assert marks.keys() == {"search-main", "search-main-gateway"}
    for each in objects:
        spec = each.get("spec", {})
        chosen = spec.get("podSelector") or (spec.get("selector") if each["kind"] != "ServiceMonitor" else None)
        if not chosen:
            continue
        chosen = chosen.get("matchLabels", chosen)
        assert sum(chosen.items() <= labels_of.items() for labels_of in marks.values()) == 1, each["metadata"]["name"]


def test_no_policy_lets_a_gateway_ask_a_machines_credentials() -> None:
    for edge in (EDGE, {"telemetry": {"endpoint": "http://collector/v1"}}):
        for rule in one(fronted(edge, CASCADE, index=INDEX), "NetworkPolicy")["spec"]["egress"]:
            for peer in rule.get("to", []):
                if peer.get("ipBlock", {}).get("cidr") == "0.0.0.0/0":
                    assert peer["ipBlock"]["except"] == ["169.254.0.0/16"]
            if "to" not in rule:
                assert {port["port"] for port in rule["ports"]} <= {53, *SETTINGS.api_server_ports}


def test_steps_that_are_apart_are_asked_by_their_services(tmp_path: Path) -> None:
    objects = fronted({}, None, pipeline=PIPELINE)
    (tmp_path / "gateway.json").write_text(text(one(objects, "Deployment")))
    config = read(tmp_path / "gateway.json")
    assert config.pipeline is not None
    assert (config.pipeline.steps[0].at.kind, config.pipeline.steps[0].at.model) == ("slices", "topics")
    peers = [peer for rule in one(objects, "NetworkPolicy")["spec"]["egress"] for peer in rule.get("to", [])]
    assert {"podSelector": {"matchLabels": {labels.MODEL: "topics"}}} in peers


def test_steps_are_asked_as_their_gateways_want_it(tmp_path: Path) -> None:
    (step,) = PIPELINE["steps"]
    more = {**step, "name": "mood", "model": "moods", "outputs": {"LABEL": "MOOD"}}  # type: ignore[dict-item]
    steps = [{**step, "backendAuthority": "topics-ca", "backendToken": "mine"}, more]  # type: ignore[dict-item]
    body = one(fronted({}, None, pipeline={**PIPELINE, "steps": steps}), "Deployment")
    (tmp_path / "gateway.json").write_text(text(body))
    config = read(tmp_path / "gateway.json")
    assert config.pipeline is not None
    topic, mood = (each.at for each in config.pipeline.steps)
    assert isinstance(topic, LargerSlices) and isinstance(mood, LargerSlices)
    assert topic.tls and topic.serverName == "topics.models.svc" and topic.authority and topic.token
    pod = body["spec"]["template"]["spec"]
    mounts = {each["mountPath"]: each["name"] for each in pod["containers"][0]["volumeMounts"]}
    volumes = {each["name"]: each.get("secret", {}).get("secretName") for each in pod["volumes"]}
    found = [(volumes[mounts[str(each.parent)]], each.name) for each in (topic.authority, topic.token)]
    assert found == [("topics-ca", "ca.crt"), ("mine", "token")]
    assert not mood.tls and mood.authority is None and mood.token is None


@pytest.mark.parametrize(("edge", "kind"), [(DAEMON, Engine), ({}, Slices)])
def test_steps_in_an_artifact_are_where_its_model_is(edge: dict[str, Any], kind: type, tmp_path: Path) -> None:
    """A gateway of every node has both in its process; before servers, Triton joins them."""
    together = copy.deepcopy(PIPELINE)
    step = together["steps"][0]  # type: ignore[index]
    del step["model"]  # type: ignore[attr-defined]
    step |= {"onnx": {"uri": "models:head"}, "inputs": {"features": "EMBEDDING"}}  # type: ignore[operator]
    together["placement"] = "together"
    (tmp_path / "gateway.json").write_text(text(workload(edge, pipeline=together)))
    config = read(tmp_path / "gateway.json")
    assert isinstance(config.edge, kind)
    assert config.pipeline is None


def test_every_name_fits() -> None:
    model = "m" * 40
    for name in (names.gateway(model), names.local_service(model), names.of_revision(names.revision(model, "f" * 64))):
        assert len(name) <= 63


def _middle(edge: dict[str, Any], middle: Between | None, folder: Path) -> tuple[Any, list[dict[str, Any]]]:
    objects = fronted(edge, CASCADE, middle, **CLASSES)
    (folder / "gateway.json").write_text(text(one(objects, "Deployment")))
    cascade = read(folder / "gateway.json").cascade
    assert cascade is not None
    return cascade.middle, objects


def test_the_model_between_is_the_pods_of_the_artifact_that_the_thresholds_fit(tmp_path: Path) -> None:
    found, objects = _middle(THREE, BETWEEN, tmp_path)
    assert isinstance(found, LargerSlices) and (found.model, found.tls, found.token) == ("near", False, None)
    (service,) = [each for each in objects if (each["kind"], each["metadata"]["name"]) == ("Service", found.service)]
    chosen = service["spec"]["selector"]
    assert (chosen[labels.MODEL], chosen[labels.COMPONENT]) == ("near", "serve")
    own = next(each for each in fronted({}, None) if each["kind"] == "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert own[labels.DIGEST] == "a" * 32, "what it is chosen by is what pods have"
    assert chosen[labels.DIGEST] == "e" * 32
    assert len(names.between("m" * 40, BETWEEN.digest)) <= 63
    out = one(objects, "NetworkPolicy")["spec"]["egress"]
    to = [peer.get("podSelector", {}).get("matchLabels", {}).get(labels.MODEL) for rule in out for peer in rule.get("to", [])]
    assert "near" in to


def test_a_model_between_at_an_address_is_shown_its_own_token(tmp_path: Path) -> None:
    middle = {"model": "near", "address": "grpcs://near.example:8443", "token": "near-token"}
    edge = {"cascade": {**THREE["cascade"], "middle": middle}, "backendAuthority": "ca", "backendToken": "far-token"}
    found, objects = _middle(edge, BETWEEN, tmp_path)
    assert isinstance(found, LargerBackends) and found.tls and list(found.backends) == ["near.example:8443"]
    pod = one(objects, "Deployment")["spec"]["template"]["spec"]
    mounted = {each["mountPath"]: each["name"] for each in pod["containers"][0]["volumeMounts"]}
    given = {each["name"]: each["secret"]["secretName"] for each in pod["volumes"] if "secret" in each}
    assert given[mounted[str(found.token and found.token.parent)]] == "near-token"
    assert given[mounted[str(found.authority and found.authority.parent)]] == "ca"
    assert not [each for each in objects if each["metadata"]["name"].startswith("search-main-middle")]
    ports = [port["port"] for rule in one(objects, "NetworkPolicy")["spec"]["egress"] for port in rule.get("ports", [])]
    assert 8443 in ports


def test_an_artifact_decides_whether_there_is_a_model_between(tmp_path: Path) -> None:
    """The gateway refuses to start where artifact and configuration differ on it."""
    assert _middle(THREE, None, tmp_path)[0] is None, "the cascade that serves was solved without"
    found, objects = _middle({"cascade": EDGE["cascade"]}, BETWEEN, tmp_path)
    assert isinstance(found, LargerSlices), "the spec of today has none, and what serves was solved with it"
    assert [each for each in objects if each["metadata"]["name"] == found.service]


CUT = "sha256:" + "c" * 64
HALVES = {"cut": {"layer": "encoder.2"}}
GATE = {"data": {"uri": "data:gate"}}


@pytest.mark.parametrize("run", [{}, DAEMON])
def test_the_upper_half_is_asked_of_the_pods_of_the_same_revision(tmp_path: Path, run: dict[str, Any]) -> None:
    objects = fronted({**HALVES, **run}, None, cut=CUT, gate=GATE)
    body = one(objects, "DaemonSet" if run else "Deployment")
    (tmp_path / "gateway.json").write_text(text(body))
    config = read(tmp_path / "gateway.json")
    store = LocalStore(Path(f"/claims/{SETTINGS.store_claim}/store"))
    assert isinstance(config.edge, Lower) and config.edge.folder == store.objects.path(CUT)
    assert config.cut is not None and isinstance(config.cut.upper, LargerSlices)
    (service,) = [each for each in objects if (each["kind"], each["metadata"]["name"]) == ("Service", config.cut.upper.service)]
    model = next(each for each in objects if each["kind"] == "Deployment" and each["metadata"]["name"] == "search-main")
    template = model["spec"]["template"]
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    assert service["spec"]["selector"][labels.REVISION] == body["spec"]["template"]["metadata"]["labels"][labels.REVISION]
    assert config.cut.upper.model == "search" + UPPER
    (server,) = template["spec"]["containers"]
    assert f"--cut={CUT}" in server["args"]
    assert "--verify" in body["spec"]["template"]["spec"]["containers"][0]["args"]
    assert one(objects, "RoleBinding")


def test_pods_of_halves_answer_until_no_old_gateway_can_be_asked(tmp_path: Path) -> None:
    objects = fronted(HALVES, None, cut=CUT, gate=GATE)
    gateway = one(objects, "Deployment")["spec"]
    model = next(each for each in objects if each["metadata"]["name"] == "search-main" and each["kind"] == "Deployment")
    pod, whole = model["spec"]["template"]["spec"], workload({})["spec"]["template"]["spec"]
    drain = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert gateway["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": "100%"}, "all at once"
    assert drain >= whole["terminationGracePeriodSeconds"] + 30, "an old gateway's end, and the new one's start"
    assert pod["terminationGracePeriodSeconds"] > drain


def test_halves_at_an_address_are_asked_there(tmp_path: Path) -> None:
    edge = {"cut": {**HALVES["cut"], "address": "grpcs://halves.example:8443"}, "backendToken": "t", **DAEMON}
    objects = fronted(edge, None, cut=CUT, gate=GATE)
    body = one(objects, "DaemonSet")
    (tmp_path / "gateway.json").write_text(text(body))
    config = read(tmp_path / "gateway.json")
    assert config.cut is not None and isinstance(config.cut.upper, LargerBackends) and config.cut.upper.token is not None
    assert list(config.cut.upper.backends) == ["halves.example:8443"] and config.cut.upper.tls
    assert not [each for each in objects if each["kind"] == "RoleBinding"], "it looks for nobody"
    assert body["spec"]["template"]["spec"]["automountServiceAccountToken"] is False


def test_until_a_model_is_cut_it_is_whole() -> None:
    for run, kind in (({}, "slices"), (DAEMON, "engine")):
        config = json.loads(text(workload({**HALVES, **run}, gate=GATE)))
        assert config["edge"]["kind"] == kind
        assert "cut" not in config
