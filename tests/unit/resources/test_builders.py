"""What every child must be: deterministic, owned, restricted, without access to anything."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.api.scalars import parse_cpu, parse_quantity
from stillhouse.reconcile.decide import Decision
from stillhouse.reconcile.desired import KINDS, children
from stillhouse.resources import labels, names, quantities
from stillhouse.resources.jobs import job
from stillhouse.resources.wanted import ClusterSettings, Owner, Scaling, Serving

OWNER = Owner("m" * 40, "default", "uid")
SERVING = Serving("m-1", "sha256:" + "a" * 64, "int8", {"cpus": 0.25, "memory": 1500 << 20})
SETTINGS = ClusterSettings(pull_secrets=("registry",))


def everything(mode: str = "hpa") -> list[dict[str, Any]]:
    decision = Decision("f" * 64, {}, Scaling(mode, 1, 3, 2), serving=SERVING)
    found = children(OWNER, decision, SETTINGS)
    return [*found, job(OWNER, "f" * 64, "compress", {}, {"models:minilm": "pvc://c/m"}, SETTINGS)]


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
        for container in pod["containers"]:
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
    assert "egress" not in policy
    assert policy["podSelector"]["matchLabels"] == deployment["spec"]["selector"]["matchLabels"]
    assert policy["podSelector"]["matchLabels"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()


def test_no_serving_selector_chooses_the_pods_of_a_build() -> None:
    build = next(each for each in everything() if each["kind"] == "Job")["spec"]["template"]["metadata"]["labels"]
    assert not labels.selector(OWNER.name, names.VARIANT).items() <= build.items()


def test_replicas_are_named_only_where_nobody_scales() -> None:
    def deployment(mode: str) -> dict[str, Any]:
        return next(each for each in everything(mode) if each["kind"] == "Deployment")

    assert "replicas" not in deployment("hpa")["spec"]
    assert "replicas" not in deployment("cpu")["spec"]
    assert deployment("external")["spec"]["replicas"] == 2
    assert not [each for each in everything("external") if each["kind"] == "HorizontalPodAutoscaler"]


def test_a_failed_gate_is_not_tried_again_and_an_evicted_pod_does_not_count() -> None:
    (found,) = [each for each in everything() if each["kind"] == "Job"]
    ignored, failing = found["spec"]["podFailurePolicy"]["rules"]
    assert ignored["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert failing["onExitCodes"]["values"] == [2, 3, 4]
    assert found["spec"]["template"]["spec"]["restartPolicy"] == "Never", "a pod failure policy needs it"


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
    spec = job(OWNER, "f" * 64, "resolve", {}, bound, SETTINGS)["spec"]["template"]["spec"]
    (worker,) = spec["containers"]
    mounts = {
        mount["mountPath"]: mount.get("readOnly", False) for mount in worker["volumeMounts"] if "/claims/" in mount["mountPath"]
    }
    assert mounts == {f"/claims/{SETTINGS.store_claim}": False, "/claims/theirs": True}
    assert {each["name"] for each in spec["volumes"]} == {mount["name"] for mount in worker["volumeMounts"]}
