"""What a source's URI may reach: by name, by address, by redirect. The resolver is the test's, so no network is asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from stillhouse.clients.sources.remote.rules import HOSTS_VARIABLE, LIMIT_VARIABLE, NETWORKS_VARIABLE, Rules, rules_of
from stillhouse.clients.sources.remote.web import Web
from stillhouse.errors import EnvironmentProblem, UnsafeSource, UsageError

PUBLIC = "93.184.215.14"


def web(*addresses: str, rules: Rules | None = None) -> tuple[Web, list[str]]:
    asked: list[str] = []

    def lookup(host: str, port: int) -> list[str]:
        asked.append(host)
        return list(addresses)

    return Web(rules or Rules(), lookup=lookup), asked


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.96.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "::1", "fe80::1", "fd00::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "ff02::1", "fe80::1%eth0",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    client, asked = web(address)
    with pytest.raises(UnsafeSource, match="private, local or of the cluster"):
        client.send("GET", "https://files.example/x")
    assert asked == ["files.example."], "looked up as it is: a pod's resolver would try the cluster's own names first"


def test_one_private_address_among_public_ones_is_enough_to_refuse() -> None:
    with pytest.raises(UnsafeSource, match=r"files\.example is 10\.0\.0\.1"):
        web(PUBLIC, "10.0.0.1")[0].send("GET", "https://files.example/x")


@pytest.mark.parametrize(
    "url",
    ["https://kubernetes/x", "https://minio.store.svc/x", "https://kubernetes.default.svc.cluster.local/", "https://printer.local/",
     "https://localhost/x", "https://metadata.google.internal/", "http://files.example/x", "ftp://files.example/x",
     "https://user:hunter2@files.example/x", "https://[::1]/x", "https://127.0.0.1/x", "https:///x", "https://h.example:port/x"],
)  # fmt: skip
def test_urls_that_are_refused_before_anything_is_looked_up(url: str) -> None:
    client, asked = web(PUBLIC)
    with pytest.raises(UnsafeSource) as refused:
        client.send("GET", url)
    assert asked == []
    assert "hunter2" not in str(refused.value), "what may be a secret is not printed"


def test_a_name_that_is_not_known_is_the_networks_fault() -> None:
    def nobody(host: str, port: int) -> list[str]:
        raise OSError("Name or service not known")

    with pytest.raises(EnvironmentProblem, match="host is not known"):
        Web(Rules(), lookup=nobody).send("GET", "https://files.example/x")


@pytest.mark.parametrize(
    ("entry", "host", "port", "opened", "plain"),
    [
        ("minio.store.svc", "minio.store.svc", 443, True, False),
        ("minio.store.svc", "MINIO.store.svc.", 9000, True, False),
        ("minio.store.svc:9000", "minio.store.svc", 443, False, False),
        ("https://minio.store.svc:9000", "minio.store.svc", 9000, True, False),
        ("http://minio.store.svc:9000", "minio.store.svc", 9000, True, True),
        ("http://minio.store.svc:9000", "minio.store.svc", 9001, False, False),
        ("*.corp.example", "a.b.corp.example", 443, True, False),
        ("*.corp.example", "corp.example", 443, False, False),
        ("*.corp.example", "evilcorp.example", 443, False, False),
        ("[fd00::5]:5000", "fd00::5", 5000, True, False),
    ],
)
def test_the_administrator_opens_hosts(entry: str, host: str, port: int, opened: bool, plain: bool) -> None:
    rules = rules_of({HOSTS_VARIABLE: f" {entry} , other.example"}, trusting=False)

    def passes(check: Callable[[], None]) -> bool:
        try:
            check()
        except UnsafeSource:
            return False
        return True

    assert passes(lambda: rules.check_address(host, port, "10.0.0.1", named=True)) is opened
    assert passes(lambda: rules.check_name("http", host, port, named=True)) is plain


def test_the_administrator_opens_networks() -> None:
    rules = rules_of({NETWORKS_VARIABLE: "10.20.0.0/16,fd00::/8"}, trusting=False)
    rules.check_address("nas.corp.example", 443, "10.20.3.4", named=True)
    rules.check_address("nas.corp.example", 443, "fd12::1", named=True)
    for other in ("10.21.0.1", "127.0.0.1", "2002:a14:1::"):
        if other.startswith("2002"):
            rules.check_address("nas.corp.example", 443, other, named=True)  # 10.20.0.1 by 6to4
            continue
        with pytest.raises(UnsafeSource):
            rules.check_address("nas.corp.example", 443, other, named=True)


@pytest.mark.parametrize(("variable", "value"), [(NETWORKS_VARIABLE, "10.0.0.0/99"), (LIMIT_VARIABLE, "1Gi")])
def test_settings_that_cannot_be_read_are_told(variable: str, value: str) -> None:
    with pytest.raises(UsageError, match=variable):
        rules_of({variable: value}, trusting=False)


class Site(BaseHTTPRequestHandler):
    """Answers with a redirect where `moved` says so, else with what it was asked with."""

    moved: dict[str, str]
    seen: list[tuple[str, str | None, str | None]]

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers.get("Authorization"), self.headers.get("Host")))
        target = self.moved.get(self.path)
        self.send_response(302 if target else 200)
        if target:
            self.send_header("Location", target)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")


@pytest.fixture
def sites() -> Iterator[tuple[type[Site], int, int]]:
    handler = type("BoundSite", (Site,), {"moved": {}, "seen": []})
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield handler, servers[0].server_address[1], servers[1].server_address[1]
    for server in servers:
        server.shutdown()
        server.server_close()


SECRET = {"Authorization": "Bearer secret"}


def test_the_connection_goes_to_the_address_that_was_checked(sites: tuple[type[Site], int, int]) -> None:
    """The resolver answers once with what is opened, then with another: nobody asks it a second time."""
    handler, port, _ = sites
    answers = iter([["127.0.0.1"]])
    rules = Rules(hosts=(f"http://files.example:{port}",))
    client = Web(rules, lookup=lambda host, port: next(answers))
    assert client.send("GET", f"http://files.example:{port}/x").read() == b"ok"
    assert handler.seen == [("/x", None, f"files.example:{port}")]


def test_a_credential_stays_with_its_host(sites: tuple[type[Site], int, int]) -> None:
    handler, port, other = sites
    rules = Rules(hosts=("http://files.example", "http://other.example"))
    handler.moved = {"/a": "/b", "/b": f"http://files.example:{other}/c", "/c": "/d"}
    client = Web(rules, lookup=lambda host, port: ["127.0.0.1"])
    client.send("GET", f"http://files.example:{port}/a", secret=SECRET).close()
    assert [(path, secret) for path, secret, _ in handler.seen] == [
        ("/a", "Bearer secret"),
        ("/b", "Bearer secret"),
        ("/c", None),
        ("/d", None),
    ], "another port is another origin, and the way back does not bring it back"


def test_redirects_are_few_and_lead_nowhere_new(sites: tuple[type[Site], int, int]) -> None:
    handler, port, _ = sites
    handler.moved = {f"/{step}": f"/{step + 1}" for step in range(9)} | {
        "/in": "http://10.0.0.1/",
        "/meta": "http://169.254.169.254/",
    }
    client = Web(Rules(hosts=(f"http://files.example:{port}",)), lookup=lambda host, port: ["127.0.0.1"])
    with pytest.raises(UnsafeSource, match="more than 3 redirects"):
        client.send("GET", f"http://files.example:{port}/0")
    assert [path for path, _, _ in handler.seen] == ["/0", "/1", "/2", "/3"]
    for path in ("/in", "/meta"):
        with pytest.raises(UnsafeSource):
            client.send("GET", f"http://files.example:{port}{path}")


def test_a_laptops_user_is_trusted_and_where_a_server_leads_is_not(sites: tuple[type[Site], int, int]) -> None:
    handler, port, other = sites
    client = Web(rules_of({}, trusting=True))
    assert client.send("GET", f"http://localhost:{port}/x").read() == b"ok"
    handler.moved = {"/x": f"http://localhost:{other}/y"}
    with pytest.raises(UnsafeSource):
        client.send("GET", f"http://localhost:{port}/x")
    assert [path for path, _, _ in handler.seen] == ["/x", "/x"]
