"""What every child must be: deterministic, owned, restricted, without access to anything."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.api.scalars import parse_cpu, parse_quantity
from stillhouse.reconcile.decide import Decision
from stillhouse.reconcile.desired import KINDS, children
from stillhouse.resources import images, labels, names, quantities
from stillhouse.resources.guards import build_policy
from stillhouse.resources.jobs import PROGRESS_PORT, job
from stillhouse.resources.server import server_container
from stillhouse.resources.wanted import Building, ClusterSettings, Owner, Scaling, Serving

OWNER = Owner("m" * 40, "default", "uid")
SERVING = Serving("m-1", "sha256:" + "a" * 64, "int8", {"cpus": 0.25, "memory": 1500 << 20})
SETTINGS = ClusterSettings(pull_secrets=("registry",))


def everything(mode: str = "hpa") -> list[dict[str, Any]]:
    decision = Decision("f" * 64, {}, Scaling(mode, 1, 3, 2), serving=SERVING)
    found = children(OWNER, decision, SETTINGS)
    bound = {"models:minilm": "pvc://c/m"}
    return [*found, *(job(OWNER, "f" * 64, stage, {}, bound, SETTINGS, SERVING, Building()) for stage in ("compress", "gate"))]


def pods() -> list[dict[str, Any]]:
    return [each["spec"]["template"] for each in everything() if each["kind"] in ("Deployment", "Job")]


def test_the_same_is_built_twice_and_is_plain_json() -> None:
    assert everything() == everything()
    assert json.loads(json.dumps(everything())) == everything()


def test_every_child_belongs_to_its_model_and_says_so() -> None:
    for each in everything():
        (owner,) = each["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"]) == ("uid", True)
        assert each["metadata"]["labels"][labels.MODEL] == OWNER.name
        assert each["metadata"]["namespace"] == "default"
        assert len(each["metadata"]["name"]) <= 63
        assert all(len(value) <= 63 for value in each["metadata"]["labels"].values())
        assert each["kind"] in (*KINDS, "Job")


def test_pods_keep_pod_security_restricted() -> None:
    for template in pods():
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert all({"persistentVolumeClaim", "emptyDir"} & volume.keys() for volume in pod["volumes"])
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"].keys() == container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert not {"hostPort"} & {key for port in container.get("ports", []) for key in port}


def test_serving_pods_can_change_no_artifact_and_reach_nothing() -> None:
    deployment = next(each for each in everything() if each["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    (store,) = [volume for volume in pod["volumes"] if "persistentVolumeClaim" in volume]
    assert store["persistentVolumeClaim"] == {"claimName": SETTINGS.store_claim, "readOnly": True}
    assert all(mount["readOnly"] for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == store["name"])
    policy = next(each for each in everything() if each["kind"] == "NetworkPolicy")["spec"]
    assert "Egress" in policy["policyTypes"]
    assert policy["egress"] == []
    assert policy["podSelector"]["matchLabels"] == deployment["spec"]["selector"]["matchLabels"]
    assert policy["podSelector"]["matchLabels"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()


def test_no_serving_selector_chooses_the_pods_of_a_build() -> None:
    builds = [each["spec"]["template"]["metadata"]["labels"] for each in everything() if each["kind"] == "Job"]
    assert len(builds) == 2
    assert not [each for each in builds if labels.selector(OWNER.name, names.VARIANT).items() <= each.items()]


def test_replicas_are_named_only_where_nobody_scales() -> None:
    def deployment(mode: str) -> dict[str, Any]:
        return next(each for each in everything(mode) if each["kind"] == "Deployment")

    assert "replicas" not in deployment("hpa")["spec"]
    assert "replicas" not in deployment("cpu")["spec"]
    assert deployment("external")["spec"]["replicas"] == 2
    assert not [each for each in everything("external") if each["kind"] == "HorizontalPodAutoscaler"]


def test_a_failed_gate_is_not_tried_again_and_an_evicted_pod_does_not_count() -> None:
    for found in (each for each in everything() if each["kind"] == "Job"):
        ignored, failing = found["spec"]["podFailurePolicy"]["rules"]
        assert ignored["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
        assert failing["onExitCodes"] == {"containerName": "worker", "operator": "In", "values": [2, 3, 4]}
        assert found["spec"]["template"]["spec"]["restartPolicy"] == "Never", "a pod failure policy needs it"


def test_the_gate_measures_in_the_pod_that_will_serve() -> None:
    serves, _, gate = pods()
    (served,), (server,) = serves["spec"]["containers"], gate["spec"]["initContainers"]
    (worker,) = gate["spec"]["containers"]
    for part in ("image", "resources", "securityContext", "env", "name", "terminationMessagePolicy"):
        assert server[part] == served[part], part
    assert server["restartPolicy"] == "Always", "a native sidecar: there before the worker, and its end does not count"
    mounts = [each for each in server["volumeMounts"] if each["name"] != "exchange"]
    assert mounts == served["volumeMounts"]
    assert all(each.get("readOnly") for each in mounts if each["mountPath"].startswith("/claims"))
    own = {"containers", "initContainers", "volumes", "restartPolicy"}
    of_rollouts = {"terminationGracePeriodSeconds", "topologySpreadConstraints", "affinity"}
    shared = serves["spec"].keys() - own - of_rollouts
    assert {name: gate["spec"].get(name) for name in gate["spec"].keys() - own} == {name: serves["spec"][name] for name in shared}
    volumes = {each["name"]: each for each in gate["spec"]["volumes"]}
    for volume in serves["spec"]["volumes"]:
        if "persistentVolumeClaim" not in volume:
            assert volumes[volume["name"]] == volume, "the same shared memory, the same room to work"
    assert worker["resources"] != server["resources"], "the clients' CPU is not the server's"
    (port,) = worker["ports"]
    assert f"--progress-port={port['containerPort']}" in worker["args"]
    assert "ports" not in server, "only the worker of the same pod can ask for a candidate"


def test_the_gate_goes_where_the_serving_pods_go() -> None:
    placed = {
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "imagePullSecrets": [{"name": "theirs"}],
        "topologySpreadConstraints": [{"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}],
    }
    serving = dataclasses.replace(SERVING, pods={"spec": placed}, serve={"gpus": 1})
    pod = job(OWNER, "f" * 64, "gate", {}, {}, SETTINGS, serving, Building())["spec"]["template"]["spec"]
    serves = one("Deployment", serving)["spec"]["template"]["spec"]
    for part in ("nodeSelector", "tolerations", "imagePullSecrets"):
        assert pod[part] == serves[part], part
    assert "topologySpreadConstraints" not in pod, "it has no siblings"


PLACED = {
    "nodeSelector": {"pool": "batch"},
    "tolerations": [{"key": "batch", "operator": "Exists"}],
    "priorityClassName": "low",
    "imagePullSecrets": [{"name": "theirs"}],
}
BUILDING = Building("8", "32Gi", "4", None, PLACED, "team-a")


def stage(name: str, building: Building) -> dict[str, Any]:
    return job(OWNER, "f" * 64, name, {}, {}, SETTINGS, SERVING, building)


def test_a_build_has_what_its_spec_gives_it() -> None:
    made = stage("train", BUILDING)
    pod = made["spec"]["template"]["spec"]
    (worker,) = pod["containers"]
    assert worker["resources"] == {"limits": {"cpu": "8", "memory": "32Gi"}, "requests": {"cpu": "4", "memory": "32Gi"}}
    for part in ("nodeSelector", "tolerations", "priorityClassName"):
        assert pod[part] == PLACED[part]
    assert pod["imagePullSecrets"] == [{"name": "registry"}, {"name": "theirs"}]
    (worker,) = stage("train", Building())["spec"]["template"]["spec"]["containers"]
    assert worker["resources"]["limits"] == {"cpu": SETTINGS.build_cpu, "memory": SETTINGS.build_memory}


def test_the_gate_stays_where_the_serving_pods_go_whatever_builds_are_given() -> None:
    with_it, without = (stage("gate", each)["spec"]["template"]["spec"] for each in (BUILDING, Building()))
    for part in ("nodeSelector", "tolerations", "priorityClassName", "initContainers"):
        assert with_it.get(part) == without.get(part), part
    assert {"name": "theirs"} in with_it["imagePullSecrets"], "the worker's image is pulled there too"
    assert with_it["containers"][0]["resources"]["limits"]["cpu"] == "8"


@pytest.mark.parametrize(("asked", "requested"), [("4", "500m"), ("250m", "250m"), (None, "500m")])
def test_the_client_of_a_gate_leaves_the_nodes_cpus_to_the_server(asked: str | None, requested: str) -> None:
    building = dataclasses.replace(BUILDING, cpu_request=asked)
    spec = stage("gate", building)["spec"]["template"]["spec"]
    assert spec["containers"][0]["resources"] == {
        "limits": {"cpu": "8", "memory": "32Gi"},
        "requests": {"cpu": requested, "memory": "32Gi"},
    }
    assert spec["initContainers"][0]["resources"]["requests"]["cpu"] == "250m", "what a serving pod's server has"


def test_a_queue_is_a_label_of_the_job_and_nothing_of_it_is_suspended_by_us() -> None:
    queued, plain = stage("train", BUILDING), stage("train", Building())
    assert queued["metadata"]["labels"][labels.QUEUE] == "team-a"
    assert labels.QUEUE not in plain["metadata"]["labels"]
    assert "suspend" not in queued["spec"], "where there is no Kueue, nobody would ever let it go"
    assert queued["metadata"]["name"] == plain["metadata"]["name"]


def test_every_stage_knows_what_will_serve() -> None:
    told = set()
    for template in pods()[1:]:
        (worker,) = template["spec"]["containers"]
        (value,) = [each["value"] for each in worker["env"] if each["name"] == "STILLHOUSE_SERVER"]
        told.add(value)
    assert [json.loads(each) for each in told] == [{"image": SETTINGS.serve_image, "cpus": 0.25}]


def test_a_server_without_limits_in_its_spec_is_rendered_for_those_that_it_has() -> None:
    container = server_container(Serving(serve={"cpus": None, "memory": None}), SETTINGS, [])
    (value,) = [each["value"] for each in container["env"]]
    assert json.loads(value) == {"cpus": 1.0, "memory": 512 << 20}
    assert container["resources"]["limits"] == {"cpu": "1", "memory": "512Mi"}


@given(st.integers(1, 64_000))
def test_cpus_come_back_as_they_were_written(thousandths: int) -> None:
    assert parse_cpu(quantities.cpu(thousandths / 1000)) == pytest.approx(thousandths / 1000)


@given(st.one_of(st.integers(1, 10**12 - 1), st.builds(lambda n, e: n << e, st.integers(1, 5000), st.sampled_from([10, 20, 30]))))
def test_memory_comes_back_as_it_was_written(size: int) -> None:
    text = quantities.memory(size)
    assert parse_quantity(text) == size
    assert text.endswith(("Ki", "Mi", "Gi", "Ti")) == (size % 1024 == 0)


@pytest.mark.parametrize(
    ("size", "text"), [(1_500_000_000, "1500M"), (1000, "1k"), (1536 << 20, "1536Mi"), (1 << 40, "1Ti"), (7, "7")]
)
def test_the_form_is_the_servers(size: int, text: str) -> None:
    assert quantities.memory(size) == text


def test_a_build_mounts_the_claims_of_its_sources_and_may_write_to_the_stores_alone() -> None:
    bound = {
        "models:a": "pvc://theirs/m",
        "data:b": f"pvc://{SETTINGS.store_claim}/b.jsonl",
        "data:c": "hf://o/d",
        "data:d": "pvc://theirs/d",
    }
    spec = job(OWNER, "f" * 64, "resolve", {}, bound, SETTINGS, SERVING, Building())["spec"]["template"]["spec"]
    (worker,) = spec["containers"]
    mounts = {
        mount["mountPath"]: mount.get("readOnly", False) for mount in worker["volumeMounts"] if "/claims/" in mount["mountPath"]
    }
    assert mounts == {f"/claims/{SETTINGS.store_claim}": False, "/claims/theirs": True}
    assert {each["name"] for each in spec["volumes"]} == {mount["name"] for mount in worker["volumeMounts"]}


def one(kind: str, serving: Serving = SERVING, settings: ClusterSettings = SETTINGS, **more: Any) -> dict[str, Any]:
    decision = Decision("f" * 64, {}, Scaling("hpa", 1, 3, 2), serving=serving)
    (found,) = [each for each in children(OWNER, decision, settings, **more) if each["kind"] == kind]
    return found


TEMPLATE = {
    "metadata": {"labels": {"team": "search", labels.MODEL: "another"}, "annotations": {"a": "b"}},
    "spec": {
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "high",
        "runtimeClassName": "nvidia",
        "imagePullSecrets": [{"name": "mine"}, {"name": "registry"}],
        "topologySpreadConstraints": [{"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}],
    },
}


@pytest.mark.parametrize(("strategy", "drain"), [("RollingUpdate", 40), ("Recreate", 5)])
def test_an_old_pod_serves_on_until_clients_know_its_successor(strategy: str, drain: int) -> None:
    pod = one("Deployment", dataclasses.replace(SERVING, strategy=strategy))["spec"]["template"]["spec"]
    assert pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"] == drain
    assert pod["terminationGracePeriodSeconds"] == drain + 50


def test_the_users_part_of_a_pod_stands_beside_ours_and_never_in_its_place() -> None:
    plain = one("Deployment")["spec"]
    found = one("Deployment", dataclasses.replace(SERVING, pods=TEMPLATE))["spec"]
    assert found["selector"] == plain["selector"]
    marks = found["template"]["metadata"]
    assert marks["labels"] == {**plain["template"]["metadata"]["labels"], "team": "search"}, "ours counts"
    assert marks["annotations"] == {**plain["template"]["metadata"]["annotations"], "a": "b"}
    pod, before = found["template"]["spec"], plain["template"]["spec"]
    for name in ("nodeSelector", "tolerations", "affinity", "priorityClassName", "runtimeClassName"):
        assert pod[name] == TEMPLATE["spec"][name]
    assert pod["imagePullSecrets"] == [{"name": "registry"}, {"name": "mine"}]
    (spread,) = pod["topologySpreadConstraints"]
    assert spread == {
        **before["topologySpreadConstraints"][0],
        "maxSkew": 2,
        "topologyKey": "rack",
        "whenUnsatisfiable": "DoNotSchedule",
    }
    for name in ("containers", "volumes", "securityContext", "serviceAccountName", "automountServiceAccountToken"):
        assert pod[name] == before[name]


def test_a_template_builds_nothing_and_neither_do_strategy_and_limits_of_history() -> None:
    from tests.support.cluster import model

    from stillhouse.api.load import parse
    from stillhouse.planning.build import request_hash

    def asked(**serve: Any) -> str:
        return request_hash(parse(model(serve=serve)), {})

    plain = asked()
    assert asked(podTemplate={"spec": {"nodeSelector": {"disk": "ssd"}}}) == plain
    assert asked(strategy={"type": "Recreate"}, revisionHistoryLimit=3) == plain
    assert asked(runtime="triton-ort-cpu") == plain
    gpu = asked(runtime="triton-nvidia")
    assert gpu == asked(runtime="triton-nvidia", gpu={"count": 1}) != plain
    assert len({gpu, *(asked(runtime="triton-nvidia", gpu={"tensorrt": {"precision": each}}) for each in ("fp16", "fp32"))}) == 3


def test_pods_with_gpus_ask_for_them_and_tolerate_their_taint() -> None:
    serving = dataclasses.replace(SERVING, serve={"gpus": 2, "tensorrt": "fp16"}, pods={"spec": {"runtimeClassName": "nvidia"}})
    pod = one("Deployment", serving)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == SETTINGS.serve_gpu_image
    for amounts in container["resources"].values():
        assert amounts["nvidia.com/gpu"] == "2"
        assert amounts["memory"] == "8Gi"
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert pod["runtimeClassName"] == "nvidia"
    probe = container["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 1800, "TensorRT's engines are made first"
    assert one("Deployment", serving)["spec"]["progressDeadlineSeconds"] > 1800
    assert "tolerations" not in one("Deployment")["spec"]["template"]["spec"]


def test_a_rolling_update_takes_no_pod_before_its_time_and_recreate_says_so() -> None:
    assert one("Deployment")["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    again = one("Deployment", dataclasses.replace(SERVING, strategy="Recreate"))
    assert again["spec"]["strategy"] == {"type": "Recreate"}


@pytest.mark.parametrize(
    ("image", "moved"),
    [
        ("ghcr.io/stillhouse/serve:0.1.0", "registry.internal:5000/mirror/stillhouse/serve:0.1.0"),
        ("localhost/serve", "registry.internal:5000/mirror/serve"),
        ("other:5000/a/b@sha256:" + "a" * 64, "registry.internal:5000/mirror/a/b@sha256:" + "a" * 64),
        ("stillhouse/serve:1", "registry.internal:5000/mirror/stillhouse/serve:1"),
        ("serve:1.2", "registry.internal:5000/mirror/serve:1.2"),
    ],
)
def test_images_come_from_the_registry_that_the_administrator_names(image: str, moved: str) -> None:
    assert images.relocated(image, "registry.internal:5000/mirror") == moved
    assert images.relocated(image, "registry.internal:5000/mirror/") == moved
    assert images.relocated(image, "") == image


def test_every_image_of_ours_is_relocated() -> None:
    settings = ClusterSettings(image_registry="r.internal")
    gpu = dataclasses.replace(SERVING, serve={"gpus": 1})
    found = [one("Deployment", each, settings) for each in (SERVING, gpu)]
    found += [job(OWNER, "f" * 64, "gate", {}, {}, settings, each, Building()) for each in (SERVING, gpu)]
    for each in found:
        pod = each["spec"]["template"]["spec"]
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            assert container["image"].startswith("r.internal/stillhouse/")


def test_the_pods_of_a_build_tell_the_operator_alone_and_reach_no_link_local_address() -> None:
    spec = build_policy(OWNER, SETTINGS)["spec"]
    job_labels = job(OWNER, "f" * 64, "gate", {}, {}, SETTINGS, SERVING, Building())["spec"]["template"]["metadata"]["labels"]
    serving = one("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert spec["podSelector"]["matchLabels"].items() <= job_labels.items()
    assert not spec["podSelector"]["matchLabels"].items() <= serving.items()
    (rule,) = spec["ingress"]
    assert rule["ports"] == [{"port": PROGRESS_PORT, "protocol": "TCP"}]
    assert [peer["namespaceSelector"]["matchLabels"] for peer in rule["from"]] == [{"kubernetes.io/metadata.name": "stillhouse"}]
    metadata_service = ipaddress.ip_address("169.254.169.254")
    reached = [each["ipBlock"] for rule in spec["egress"] for each in rule["to"] if "ipBlock" in each]
    for block in reached:
        inside = metadata_service in ipaddress.ip_network(block["cidr"])
        assert not inside or any(metadata_service in ipaddress.ip_network(each) for each in block["except"])
    assert any(ipaddress.ip_address("10.1.2.3") in ipaddress.ip_network(each["cidr"]) for each in reached)


def test_a_builds_policy_is_there_while_it_is_built() -> None:
    def found(build: bool) -> list[str]:
        decision = Decision("f" * 64, {}, Scaling("hpa", 1, 3, 2), build=build, serving=SERVING)
        return [each["metadata"]["name"] for each in children(OWNER, decision, SETTINGS) if each["kind"] == "NetworkPolicy"]

    assert names.build_policy(OWNER.name) in found(True)
    assert found(False) == [names.workload(OWNER.name)]


def test_pods_that_train_together_find_each_other_and_nobody_else_is_let_in() -> None:
    several = Building(workers=3)
    decision = Decision("f" * 64, {}, Scaling("hpa", 1, 3, 2), build=True, builds=several)
    made = {(each["kind"], each["metadata"]["name"]): each for each in children(OWNER, decision, SETTINGS)}
    service, policy = (made[kind, names.workers(OWNER.name)]["spec"] for kind in ("Service", "NetworkPolicy"))
    training, gate = (stage(each, several)["spec"] for each in ("train", "gate"))
    template = training["template"]
    pods = template["metadata"]["labels"]
    for chosen in (service["selector"], policy["podSelector"]["matchLabels"]):
        assert chosen.items() <= pods.items()
        assert not chosen.items() <= gate["template"]["metadata"]["labels"].items()
        assert chosen != {**chosen, labels.REQUEST: "e" * 32}, "the pods of another build are other pods"
    assert (service["clusterIP"], service["publishNotReadyAddresses"]) == ("None", True)
    assert policy["ingress"] == [{"from": [{"podSelector": policy["podSelector"]}]}]
    assert policy["policyTypes"] == ["Ingress"]
    assert [training[each] for each in ("completionMode", "completions", "parallelism")] == ["Indexed", 3, 3]
    assert training["backoffLimitPerIndex"] and training["maxFailedIndexes"] == 0 and "backoffLimit" not in training
    assert template["spec"]["subdomain"] == names.workers(OWNER.name)
    job_name = names.build_job(OWNER.name, "f" * 64, "train")
    meet = f"--meet={job_name}-0.{names.workers(OWNER.name)}:29400"
    assert template["spec"]["containers"][0]["args"][-2:] == ["--workers=3", meet]
    rules = training["podFailurePolicy"]["rules"]
    assert [each["action"] for each in rules if 75 in each.get("onExitCodes", {}).get("values", [])] == ["Ignore"]
    assert "completions" not in gate and gate["backoffLimit"], "the other stages are one pod's"
    alone = stage("train", Building())["spec"]
    assert "completionMode" not in alone and "subdomain" not in alone["template"]["spec"]
    assert not any("--workers" in each for each in alone["template"]["spec"]["containers"][0]["args"])
    few = children(OWNER, dataclasses.replace(decision, builds=Building()), SETTINGS)
    assert names.workers(OWNER.name) not in {each["metadata"]["name"] for each in few}


def test_metrics_are_open_to_the_operator_and_to_monitoring_alone() -> None:
    def readers(settings: ClusterSettings) -> list[str]:
        (rule,) = [each for each in one("NetworkPolicy", settings=settings)["spec"]["ingress"] if "from" in each]
        assert rule["ports"] == [{"port": 8002, "protocol": "TCP"}]
        return [peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for peer in rule["from"]]

    assert readers(SETTINGS) == ["stillhouse"]
    assert readers(ClusterSettings(monitoring_namespace="monitoring")) == ["stillhouse", "monitoring"]
    assert readers(ClusterSettings(monitoring_namespace="stillhouse")) == ["stillhouse"]


def test_a_service_monitor_chooses_the_service_that_has_the_metrics() -> None:
    settings = ClusterSettings(monitor_labels={"release": "prometheus", labels.MODEL: "another"})
    monitor = one("ServiceMonitor", settings=settings, monitors=True)
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["metadata"]["labels"][labels.MODEL] == OWNER.name
    decision = Decision("f" * 64, {}, Scaling("hpa", 1, 3, 2), serving=SERVING)
    services = [each for each in children(OWNER, decision, SETTINGS) if each["kind"] == "Service"]
    wanted, (endpoint,) = monitor["spec"]["selector"]["matchLabels"], monitor["spec"]["endpoints"]
    chosen = [
        each["metadata"]["name"]
        for each in services
        if wanted.items() <= each["metadata"]["labels"].items()
        and endpoint["port"] in [port["name"] for port in each["spec"]["ports"]]
    ]
    assert chosen == [names.backend(OWNER.name)]
    assert not [each for each in children(OWNER, decision, SETTINGS) if each["kind"] == "ServiceMonitor"], "its kind is not known"
    off = ClusterSettings(monitors=False)
    assert not [each for each in children(OWNER, decision, off, monitors=True) if each["kind"] == "ServiceMonitor"]
