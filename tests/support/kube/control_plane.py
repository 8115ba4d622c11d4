"""A real Kubernetes API server with its etcd, on loopback, for the length of a test session.

No node, scheduler or controller runs: objects are validated, defaulted, stored, watched and authorised as in any
cluster, but nothing acts on them, so pods stay Pending and deleted namespaces stay Terminating. `controllers.py` runs
Kubernetes' own controllers beside it. It forwards to aggregated APIs, with a front-proxy certificate, by a Service of type
ExternalName `localhost` (with `--enable-aggregator-routing` by EndpointSlices, whose addresses may not be loopback ones).
"""

from __future__ import annotations

import json
import secrets
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client
from tests.support.kube.certificates import Authority
from tests.support.kube.process import ServerProcess, StartFailed, free_port
from tests.support.kube.workdir import owned_temporary_folder

__all__ = ["FRONT_PROXY", "ControlPlane", "answers", "listening", "running_control_plane"]

FRONT_PROXY = "front-proxy"
"""Common name of the API server's certificate towards aggregated APIs, and the only one that these are to allow."""

_START_TIMEOUT = 120.0  # seconds; 5 are usual, a loaded machine of two cores takes several times as long
_ATTEMPTS = 3  # a port can be taken between its choice and its use
_AUDIT_LOG = "audit.log"

# Only what changes the cluster, without bodies; the response's stage carries the status code.
_AUDIT_POLICY = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, verbs: [create, update, patch, delete, deletecollection]}
- {level: None}
"""


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """A running API server and the administrator's access to it.

    `url` is its https address, `token` the bearer token of user `admin` (group `system:masters`), `ca_file` the PEM file
    to verify it with, `folder` its working folder (logs, certificates, data). `front_proxy` is the authority that signs
    front-proxy certificates, `controllers_token` the token of kube-controller-manager, `account_key_file` what signs the
    service accounts' tokens.
    """

    url: str
    token: str
    ca_file: Path
    folder: Path
    etcd: ServerProcess
    apiserver: ServerProcess
    front_proxy: Authority
    controllers_token: str
    account_key_file: Path

    def client(self) -> client.ApiClient:
        """A new client of the administrator; close it, or use it as a context manager."""
        configuration = client.Configuration(host=self.url)
        configuration.ssl_ca_cert = str(self.ca_file)
        configuration.api_key = {"authorization": self.token}
        configuration.api_key_prefix = {"authorization": "Bearer"}
        configuration.proxy = None  # loopback never goes through the environment's proxy
        return client.ApiClient(configuration)

    def kubeconfig(self, namespace: str = "default", token: str = "") -> str:
        """A kubeconfig as YAML text, with `namespace` as its default: the administrator's, or of whom a token belongs to."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {"server": self.url, "certificate-authority": str(self.ca_file)}}],
            "users": [{"name": "admin", "user": {"token": token or self.token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin", "namespace": namespace}}],
            "current-context": "test",
        }
        return yaml.safe_dump(config, sort_keys=False)

    def audit_events(self) -> list[dict[str, Any]]:
        """Every mutating request so far, oldest first, as `audit.k8s.io/v1` Events.

        The server writes an event at about the time of its response, so one just sent may be missing for a moment.
        """
        log = self.folder / _AUDIT_LOG
        text = log.read_text() if log.exists() else ""
        complete, _, _ = text.rpartition("\n")  # the last line may be half written
        return [json.loads(line) for line in complete.splitlines()]

    def ready(self) -> str | None:
        """`None` when `/readyz` answers ok, else what it said."""
        return answers(f"{self.url}/readyz", self.ca_file, self.token)


@contextmanager
def running_control_plane(binaries: Mapping[str, Path], apiserver_flags: Sequence[str] = ()) -> Iterator[ControlPlane]:
    """Start etcd and kube-apiserver, yield when ready, stop both and remove their folder.

    Args:
        binaries: executables `etcd` and `kube-apiserver`, as of `binaries.provide`.
        apiserver_flags: further flags; the last of two that disagree counts.

    Raises:
        StartFailed: one of them ended or was not ready in time; the text holds the end of its log.
    """
    with (
        owned_temporary_folder("stillhouse-control-plane") as folder,
        _etcd(binaries["etcd"], folder) as (etcd, etcd_url),
        _apiserver(binaries["kube-apiserver"], folder, etcd, etcd_url, apiserver_flags) as control_plane,
    ):
        yield control_plane


@contextmanager
def _etcd(executable: Path, folder: Path) -> Iterator[tuple[ServerProcess, str]]:
    def arguments(port: int) -> list[str]:
        peers = "http://127.0.0.1:2380"  # a name only: a cluster of one dials nobody, and listens for peers on any free port
        return [
            "--name=only",
            f"--data-dir={folder / 'etcd'}",
            f"--listen-client-urls=http://127.0.0.1:{port}",
            f"--advertise-client-urls=http://127.0.0.1:{port}",
            "--listen-peer-urls=http://127.0.0.1:0",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=only={peers}",
            "--unsafe-no-fsync",  # the data need not survive the machine, and every write is faster without
            "--log-level=warn",
        ]

    with listening("etcd", executable, folder, arguments, lambda port: answers(f"http://127.0.0.1:{port}/health")) as (
        server,
        port,
    ):
        yield server, f"http://127.0.0.1:{port}"


@contextmanager
def _apiserver(
    executable: Path, folder: Path, etcd: ServerProcess, etcd_url: str, flags: Sequence[str]
) -> Iterator[ControlPlane]:
    token, controllers_token = secrets.token_hex(32), secrets.token_hex(32)
    certificates = folder / "certificates"
    # The server signs a certificate for itself at its start; that file is then all that a client needs to verify it, and
    # its key also signs the service accounts' tokens.
    ca_file, key_file = certificates / "apiserver.crt", certificates / "apiserver.key"
    tokens, policy = folder / "tokens.csv", folder / "audit-policy.yaml"
    tokens.write_text(f'{token},admin,admin,"system:masters"\n{controllers_token},system:kube-controller-manager,controllers\n')
    front_proxy = Authority(folder / "front-proxy", "front-proxy-ca")
    forwards = front_proxy.client(FRONT_PROXY)
    policy.write_text(_AUDIT_POLICY)

    def arguments(port: int) -> list[str]:
        return [
            f"--etcd-servers={etcd_url}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={port}",
            f"--cert-dir={certificates}",
            "--endpoint-reconciler-type=none",  # a loopback address is refused as an endpoint of Service `kubernetes`
            "--service-cluster-ip-range=10.0.0.0/24",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={key_file}",
            f"--service-account-key-file={key_file}",
            f"--token-auth-file={tokens}",
            "--authorization-mode=RBAC",
            "--anonymous-auth=false",
            # No controller makes the `default` service account that this plugin demands of every pod.
            "--disable-admission-plugins=ServiceAccount",
            f"--audit-policy-file={policy}",
            f"--audit-log-path={folder / _AUDIT_LOG}",
            # What an aggregated API needs to know who asks: ConfigMap extension-apiserver-authentication is made of these.
            f"--requestheader-client-ca-file={front_proxy.certificate}",
            f"--requestheader-allowed-names={FRONT_PROXY}",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={forwards.certificate}",
            f"--proxy-client-key-file={forwards.key}",
            "--profiling=false",
            *flags,
        ]

    def is_ready(port: int) -> str | None:
        if not etcd.is_running():
            return f"etcd has ended:\n{etcd.tail()}"
        return answers(f"https://127.0.0.1:{port}/readyz", ca_file, token)

    with listening("kube-apiserver", executable, folder, arguments, is_ready) as (server, port):
        yield ControlPlane(
            f"https://127.0.0.1:{port}", token, ca_file, folder, etcd, server, front_proxy, controllers_token, key_file
        )


@contextmanager
def listening(
    name: str,
    executable: Path,
    folder: Path,
    arguments: Callable[[int], list[str]],
    is_ready: Callable[[int], str | None],
) -> Iterator[tuple[ServerProcess, int]]:
    """Run a server on a free port, which `arguments` and `is_ready` are given; it is ready at the yield and ended afterwards."""
    for attempt in range(_ATTEMPTS):
        port = free_port()
        server = ServerProcess(name, executable, arguments(port), folder / f"{name}-{attempt}.log")

        def missing(port: int = port, server: ServerProcess = server) -> str | None:
            # Without the first question a stranger that took the port could answer for a server that is about to end.
            return is_ready(port) if server.listens_on(port) else "it does not listen yet"

        try:
            server.wait_until(missing, _START_TIMEOUT)
        except StartFailed as failure:
            if failure.port_taken and attempt + 1 < _ATTEMPTS:
                continue
            raise
        else:
            yield server, port
            return
        finally:
            server.stop()


def answers(url: str, ca_file: Path | None = None, token: str = "", *, verified: bool = True) -> str | None:
    """`None` when a GET of `url` gives status 200, else what came instead."""
    try:
        context = ssl.create_default_context(cafile=ca_file) if ca_file else None
        if not verified:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]  # never through the environment's proxy
        if context:
            handlers.append(urllib.request.HTTPSHandler(context=context))
        with urllib.request.build_opener(*handlers).open(request, timeout=5):
            return None
    except urllib.error.HTTPError as answer:
        failing = [line for line in answer.read().decode(errors="replace").splitlines() if line.startswith("[-]")]
        return f"status {answer.code} {' '.join(failing)}".rstrip()
    except (OSError, ssl.SSLError) as problem:  # not listening yet, or its certificate is not written yet
        return str(problem)
