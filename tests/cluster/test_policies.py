"""NetworkPolicies, really enforced: who reaches each kind of our pods, and what each reaches.

Every address that must be shut to one pod is open to another, so that a network that carries nothing passes no test.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from kubernetes.stream import stream
from tests.cluster.conftest import SPACE
from tests.support.cli import Project
from tests.support.mosquitto import program
from tests.support.nodes import images
from tests.support.nodes.commands import CommandFailed, run
from tests.support.nodes.models import Models
from tests.support.nodes.projects import on_claim

from stillhouse.resources.labels import MOVED

_PYTHON = "/opt/stillhouse/bin/python"
_TRY = """
import concurrent.futures, socket, sys
def look(place):
    host, _, port = place.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=3).close()
        return "open"
    except OSError:
        return "shut"
with concurrent.futures.ThreadPoolExecutor() as pool:
    print(*pool.map(look, sys.argv[1:]))
"""
_LISTEN = """
import signal, socket, sys, threading
signal.alarm(int(sys.argv[1]))
def answer(port):
    with socket.create_server(("0.0.0.0", port)) as server:
        while True:
            server.accept()[0].close()
for port in sys.argv[2:]:
    threading.Thread(target=answer, args=(int(port),)).start()
print("listening", flush=True)
"""
_ASK = """
import asyncio, pathlib, sys, tempfile
import numpy
from stillhouse.edge.mqtt.broker import Credentials, broker
from stillhouse.edge.mqtt.sender import DeviceSettings, MqttSender
from stillhouse.edge.mqtt.words import INFER
from stillhouse.edge.oip.messages import message
from stillhouse.edge.oip.tensors import add_input
async def ask(where, model):
    sender = MqttSender(where, DeviceSettings("press-7"))
    sender.start()
    request = message("ModelInferRequest")(model_name=model)
    add_input(request, "TEXT", numpy.array([[b"sort a list"]], dtype=object))
    try:
        reply = await sender.unary(INFER, request.SerializeToString(), told_s=20.0)
    finally:
        await sender.close()
    answer = message("ModelInferResponse").FromString(reply.message)
    print(" ".join(each.name for each in answer.outputs if each.name == "EMBEDDING"))
with tempfile.TemporaryDirectory() as folder:
    files = [pathlib.Path(folder) / each for each in ("user", "password")]
    for file, text in zip(files, ("press-7", "of-the-press")):
        file.write_text(text)
    where = broker(f"mqtt://{sys.argv[1]}", credentials=Credentials(*files))
    asyncio.run(asyncio.wait_for(ask(where, sys.argv[2]), 60))
"""
_API, _NAMES, _NODE = "10.96.0.1:443", "10.96.0.10:53", "192.0.2.12:10250"
_SECRETS = "169.254.169.254"
"""Where clouds tell a machine its credentials."""


def listener(models: Models, name: str, labels: dict[str, str]) -> str:
    """Start a pod with these labels that listens on 8090 and 9999; return its address."""
    body: dict[str, Any] = {
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "listen",
                    "image": images.NAMES["operator"],
                    "imagePullPolicy": "Never",
                    "command": [_PYTHON, "-c", _LISTEN, "0", "8090", "9999"],
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                }
            ],
        },
    }
    models.core.create_namespaced_pod(models.namespace, body)
    models.eventually(lambda: models.core.read_namespaced_pod(name, models.namespace).status.phase == "Running")
    return str(models.core.read_namespaced_pod(name, models.namespace).status.pod_ip)


def inside(models: Models, namespace: str, pod: str, *words: str, wait: bool = True) -> Any:
    """Run Python in a pod's first container; return what it said, or where not to `wait` the open stream."""
    container = models.core.read_namespaced_pod(pod, namespace).spec.containers[0].name
    return stream(
        models.core.connect_get_namespaced_pod_exec, pod, namespace, container=container, command=[_PYTHON, "-c", *words],
        stderr=True, stdin=False, stdout=True, tty=False, _preload_content=wait,
    )  # fmt: skip


@contextmanager
def listening_inside(models: Models, pod: str, port: int) -> Iterator[None]:
    """Let a pod of the release listen on one port more, for minutes: a process that was started there outlives the connection."""
    opened = inside(models, SPACE, pod, _LISTEN, "200", str(port), wait=False)
    try:
        models.eventually(lambda: "listening" in (opened.read_stdout(timeout=1) or ""), 30)
        yield
    finally:
        opened.close()


@contextmanager
def secrets_of_a_cloud(models: Models) -> Iterator[None]:
    """Let every node answer at the address of a cloud's metadata service."""
    nodes = range(1, models.cluster.place.nodes + 1)
    with ExitStack() as undone:
        for node in nodes:
            words = ("ip", "addr", "{}", f"{_SECRETS}/32", "dev", "lo")
            models.cluster.run(*(word.format("add") for word in words), number=node)
            undone.callback(models.cluster.run, *(word.format("del") for word in words), number=node)
            undone.enter_context(models.cluster.started(sys.executable, "-c", _LISTEN, "0", "80", number=node))
        yield


def test_who_reaches_our_pods_and_what_they_reach(models: Models, others: Models, tmp_path: Path) -> None:
    project = Project(tmp_path / "project", tmp_path / "none", tmp_path / "cache").create()
    body = on_claim(models, project)
    name = body["metadata"]["name"]
    models.apply(body)
    models.wait_ready(name, 300)
    # A build that waits for a node: its policy is there, and a pod with its pods' labels stands in for them.
    waiting = copy.deepcopy(body)
    waiting["metadata"]["name"] = "waits"
    waiting["spec"]["build"] = {"placement": {"nodeSelector": {"nowhere": "1"}}}
    models.apply(waiting)
    (pending,) = models.eventually(lambda: models.pods("waits", "build"))
    labels = {
        key: value for key, value in pending.metadata.labels.items() if "controller-uid" not in key and "job-name" not in key
    }
    (pod,) = models.pods(name)
    released = {
        each.metadata.labels["app.kubernetes.io/component"]: each for each in models.core.list_namespaced_pod(SPACE).items
    }
    operator, metrics, serving = released["operator"].status.pod_ip, released["metrics"].status.pod_ip, pod.status.pod_ip
    stranger, build = listener(models, "stranger", {}), listener(models, "build", labels)
    pods = {
        "stranger": (models.namespace, "stranger"),
        "build": (models.namespace, "build"),
        "serving": (models.namespace, pod.metadata.name),
        "operator": (SPACE, released["operator"].metadata.name),
        "metrics": (SPACE, released["metrics"].metadata.name),
    }
    cloud = f"{_SECRETS}:80"
    expected = {
        "stranger": {  # no policy: what it does not reach, the others' policies keep from it
            **dict.fromkeys([_API, _NAMES, _NODE, cloud], "open"),
            **{f"{serving}:8001": "open", f"{serving}:8002": "shut", f"{serving}:8000": "shut"},
            **{f"{build}:8090": "shut", f"{build}:9999": "shut"},
            **{f"{operator}:8080": "open", f"{operator}:9999": "shut"},
            **{f"{metrics}:8443": "open", f"{metrics}:8080": "open", f"{metrics}:9999": "shut"},
        },
        "serving": dict.fromkeys([_API, _NAMES, _NODE, cloud, f"{stranger}:9999", f"{operator}:8080"], "shut"),
        "build": {**dict.fromkeys([_API, _NAMES, _NODE, f"{stranger}:9999"], "open"), cloud: "shut", f"{serving}:8002": "shut"},
        "operator": {
            **dict.fromkeys([_API, _NAMES, f"{build}:8090"], "open"),
            **dict.fromkeys([_NODE, cloud, f"{build}:9999", f"{stranger}:8090", f"{stranger}:9999", f"{serving}:8001"], "shut"),
        },
        "metrics": {
            **dict.fromkeys([_API, _NAMES, f"{serving}:8002"], "open"),
            **dict.fromkeys([_NODE, cloud, f"{build}:8090", f"{stranger}:9999", f"{serving}:8001"], "shut"),
        },
    }

    with (
        secrets_of_a_cloud(models),
        listening_inside(models, pods["operator"][1], 9999),
        listening_inside(models, pods["metrics"][1], 9999),
    ):
        for each in (released["operator"], released["metrics"]):  # a node reaches its own pods: there is somebody to be kept from
            told = models.cluster.run(
                sys.executable, "-c", _TRY, f"{each.status.pod_ip}:9999", number=int(each.spec.node_name.removeprefix("node"))
            )
            assert told.split() == ["open"]
        comes_to_be(models, pods, expected)
        behind_a_gateway_and_a_bridge(models, others, body, serving, stranger, tmp_path)


def comes_to_be(models: Models, pods: dict[str, tuple[str, str]], expected: dict[str, dict[str, str]]) -> None:
    """Wait until each pod reaches what it may, and nothing else: the firewall follows a new pod within seconds."""

    def seen() -> dict[str, dict[str, str]]:
        return {
            who: dict(zip(places, inside(models, *pods[who], _TRY, *places).split(), strict=True))
            for who, places in expected.items()
        }

    deadline = time.monotonic() + 90
    while (found := seen()) != expected and time.monotonic() < deadline:
        time.sleep(1)
    assert found == expected


def behind_a_gateway_and_a_bridge(
    models: Models, others: Models, body: dict[str, Any], serving: str, stranger: str, folder: Path
) -> None:
    """The model behind a gateway that knows its clients, and a broker: a device is answered, and no neighbour comes round it."""
    name, space = body["metadata"]["name"], models.namespace
    broker = f"{models.cluster.place.address(1)}:1883"
    (folder / "passwords").write_text("bridge:of-the-bridge\npress-7:of-the-press\n")
    conf = folder / "mosquitto.conf"
    conf.write_text(f"user root\nlistener 1883 0.0.0.0\nallow_anonymous false\npassword_file {folder}/passwords\n")
    mosquitto, environment = program()
    paths = f"LD_LIBRARY_PATH={environment.get('LD_LIBRARY_PATH', '')}"
    run("env", paths, mosquitto.parents[1] / "bin" / "mosquitto_passwd", "-U", folder / "passwords")
    for secret, told in (
        ("at-broker", {"username": "bridge", "password": "of-the-bridge"}),
        ("clients", {"bridge": "a-token-of-the-bridge"}),
        ("token", {"token": "a-token-of-the-bridge"}),
    ):
        models.core.create_namespaced_secret(space, {"metadata": {"name": secret}, "stringData": told})
    fronted = copy.deepcopy(body)
    limits = {"limits": {"cpu": "200m", "memory": "256Mi"}}
    fronted["spec"]["edge"] = {"rest": False, "clients": {"tokens": "clients"}, "run": {"replicas": 1, "resources": limits}}
    mqtt = {"address": f"mqtt://{broker}", "credentials": "at-broker", "backendToken": "token", "memory": "256Mi"}
    fronted["spec"]["serve"]["mqtt"] = mqtt
    with models.cluster.started("env", paths, str(mosquitto), "-c", str(conf), number=1):
        models.apply(fronted)
        models.eventually(lambda: models.condition(name, "GatewayAvailable")[0] == "True", 120, about=name)
        models.eventually(lambda: models.condition(name, "BridgeAvailable")[0] == "True", 120, about=name)
        # A minute after clients have moved, nobody can know the model's pods any more.
        earlier = {"metadata": {"annotations": {MOVED: "2026-01-01T00:00:00Z"}}}
        models.core.patch_namespaced_service(name, space, earlier)
        said = models.eventually(lambda: asked(models, broker, name), 60, about=name)
        assert said == "EMBEDDING"
        (gateway,), (bridge,) = models.pods(name, "gateway"), models.pods(name, "bridge")
        # Who takes our gateway's labels in another namespace is nobody here.
        marks = {key: value for key, value in gateway.metadata.labels.items() if key != "pod-template-hash"}
        listener(others, "neighbour", marks)
        pods = {
            "neighbour": (others.namespace, "neighbour"),
            "stranger": (space, "stranger"),
            "gateway": (space, gateway.metadata.name),
            "bridge": (space, bridge.metadata.name),
        }
        door, looked = f"{gateway.status.pod_ip}:8001", f"{gateway.status.pod_ip}:8002"
        model, of_bridge = f"{serving}:8001", f"{bridge.status.pod_ip}:8002"
        cloud, elsewhere = f"{_SECRETS}:80", f"{stranger}:9999"
        nowhere = dict.fromkeys([_NODE, cloud, elsewhere], "shut")
        expected = {
            "neighbour": {door: "open", elsewhere: "open", **dict.fromkeys([looked, model, of_bridge], "shut")},
            "stranger": {door: "open", **dict.fromkeys([looked, model, of_bridge], "shut")},
            "gateway": {**dict.fromkeys([_API, _NAMES, model], "open"), **nowhere, broker: "shut", of_bridge: "shut"},
            "bridge": {**dict.fromkeys([_API, _NAMES, door, broker], "open"), **nowhere, model: "shut", looked: "shut"},
        }
        comes_to_be(models, pods, expected)
        assert asked(models, broker, name) == "EMBEDDING"


def asked(models: Models, broker: str, name: str) -> str:
    """Ask as a device at the broker does; return the outputs' names, "" where it is not answered."""
    try:
        return models.cluster.run(sys.executable, "-c", _ASK, broker, name).strip()
    except CommandFailed:
        return ""
