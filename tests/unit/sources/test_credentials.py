"""A credential is for URIs below its prefix, and is read from where the kubelet mounts it."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from stillhouse.clients.sources.remote.credentials import (
    CREDENTIALS_VARIABLE,
    Credential,
    belongs,
    choose,
    docker_login,
    read_mounted,
)
from stillhouse.errors import SourceError, UsageError


@pytest.mark.parametrize(
    ("uri", "prefix", "does"),
    [
        ("s3://models/teachers/a", "s3://models", True),
        ("s3://models/teachers/a", "s3://models/teachers/", True),
        ("s3://models/teachers2/a", "s3://models/teachers", False),
        ("s3://models2/a", "s3://models", False),
        ("oci://r.example/team/m:v1", "oci://r.example/team/m", True),
        ("oci://R.example/team/m@sha256:00", "oci://r.example/team", True),
        ("oci://r.example:5000/team/m", "oci://r.example/team", False),
        ("hf://owner/model@main", "hf://owner/model", True),
        ("hf://owner2/model", "hf://owner", False),
        ("https://files.example/a?x=1#sha256=0", "https://files.example/", True),
        ("https://files.example:443/a", "https://files.example", True),
        ("https://files.example.evil.example/a", "https://files.example", False),
        ("https://evil.example/files.example", "https://files.example", False),
        ("s3://files.example/a", "https://files.example", False),
    ],
)
def test_whole_parts_count(uri: str, prefix: str, does: bool) -> None:
    assert belongs(uri, prefix) is does


def test_the_longest_prefix_counts() -> None:
    every, one = Credential("s3://models", {}, "every"), Credential("s3://models/teachers", {}, "one")
    assert choose("s3://models/teachers/a", [every, one]) is one
    assert choose("s3://models/students/a", [one, every]) is every
    assert choose("s3://data/a", [one, every]) is None


def test_secrets_are_read_as_the_kubelet_mounts_them(tmp_path: Path) -> None:
    hidden = tmp_path / "..2026_01_01"
    hidden.mkdir()
    (hidden / "accessKeyId").write_text("AKIA\n")
    (tmp_path / "..data").symlink_to(hidden)
    (tmp_path / "accessKeyId").symlink_to(tmp_path / "..data" / "accessKeyId")
    told = json.dumps([{"for": "s3://models", "secret": "keys", "path": str(tmp_path)}])
    (found,) = read_mounted({CREDENTIALS_VARIABLE: told})
    assert dict(found.values) == {"accessKeyId": "AKIA"}
    assert "AKIA" not in repr(found)
    with pytest.raises(SourceError, match="secretAccessKey to Secret keys"):
        found.need("accessKeyId", "secretAccessKey")
    assert read_mounted({}) == ()


@pytest.mark.parametrize("told", ["{", "[{}]", '[{"for": "s3://m", "secret": "k", "path": "/not/there"}]', "7"])
def test_what_cannot_be_read_is_told(told: str) -> None:
    with pytest.raises(UsageError, match=CREDENTIALS_VARIABLE):
        read_mounted({CREDENTIALS_VARIABLE: told})


def test_a_docker_configuration_is_asked_by_host() -> None:
    both = base64.b64encode(b"me:pass:word").decode()
    text = json.dumps(
        {"auths": {"https://r.example/v1/": {"auth": both}, "other:5000": {"username": "a", "password": "b"}, "x": {}}}
    )
    assert docker_login(text, "r.example", "s") == ("me", "pass:word")
    assert docker_login(text, "other:5000", "s") == ("a", "b")
    assert docker_login(text, "other", "s") is None
    assert docker_login(text, "x", "s") is None
    with pytest.raises(SourceError, match="no docker configuration"):
        docker_login("[", "r.example", "s")
