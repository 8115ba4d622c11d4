"""What pods that train together need, before a real API server."""

from __future__ import annotations

from kubernetes.dynamic import DynamicClient
from tests.support.kube.control_plane import ControlPlane

from stillhouse.resources.guards import workers_policy
from stillhouse.resources.jobs import job
from stillhouse.resources.services import workers_service
from stillhouse.resources.wanted import Building, ClusterSettings, Owner, Serving

OWNER = Owner("m" * 40, "default", "0b5e3f0a-0000-4000-8000-000000000000")
REQUEST = "f" * 64


def test_every_object_is_taken_and_what_defaults_add_takes_nothing_away(control_plane: ControlPlane) -> None:
    spec = {"source": {"uri": "models:minilm", "task": "sentence-embedding"}}
    training = job(OWNER, REQUEST, "train", spec, {}, ClusterSettings(), Serving("m-1", "", "int8"), Building(workers=64))
    with control_plane.client() as api:
        dynamic = DynamicClient(api)
        for body in (training, workers_service(OWNER, REQUEST), workers_policy(OWNER, REQUEST)):
            kind = dynamic.resources.get(api_version=body["apiVersion"], kind=body["kind"])
            made = kind.create(body=body, namespace="default", query_params=[("dryRun", "All"), ("fieldValidation", "Strict")])
            assert made.metadata.name == body["metadata"]["name"]
            if body is training:
                found = made.to_dict()["spec"]
                assert (found["completionMode"], found["completions"], found["parallelism"]) == ("Indexed", 64, 64)
                assert (found["backoffLimitPerIndex"], found["maxFailedIndexes"]) == (4, 0)
                assert found["podReplacementPolicy"] == "Failed", "no second pod of a number beside one that is on its way out"
