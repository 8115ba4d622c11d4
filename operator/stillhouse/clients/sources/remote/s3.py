"""`s3://BUCKET/PREFIX` (a folder) and `s3://BUCKET/KEY.parquet` (a file): any store that speaks S3, by botocore.

botocore signs, writes and reads S3's requests; they are sent by our own client, which checks addresses. Where no credential is
given, on a user's machine: the usual variables and files (AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_ENDPOINT_URL, a web identity), else
the bucket is asked as anybody.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from stillhouse.clients.sources.packing import SUFFIX, plain_name
from stillhouse.clients.sources.remote.credentials import Credential
from stillhouse.clients.sources.remote.download import Changed, Listing, RemoteFile
from stillhouse.clients.sources.remote.web import Web
from stillhouse.errors import EnvironmentProblem, MissingPackages, SourceError
from stillhouse.extras import install

__all__ = ["SINGLE", "connect", "explained", "list_s3", "parse_s3"]

SINGLE = (".parquet", ".jsonl", ".csv", ".onnx")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_BLOCK = 1 << 20


def parse_s3(uri: str) -> tuple[str, str]:
    """Return (bucket, key without slashes at its ends).

    Raises:
        SourceError: it names no bucket.
    """
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not _BUCKET.fullmatch(bucket) or ".." in key.split("/"):
        raise SourceError(
            "this is no place in a bucket", field="uri", found=uri, allowed="s3://BUCKET/PREFIX", fix="check the name"
        )
    return bucket, key.strip("/")


def connect(web: Web, credential: Credential | None = None) -> Any:
    """Return botocore's client, which sends by `web`.

    Raises:
        MissingPackages: botocore is not installed.
        SourceError: the credential lacks a key, or the configuration is wrong.
    """
    try:
        import botocore.exceptions
        import botocore.session
        from botocore import UNSIGNED
        from botocore.awsrequest import AWSResponse
        from botocore.config import Config
    except ImportError as error:
        raise MissingPackages("s3:// needs botocore", found=str(error), fix=install("build")) from error
    options: dict[str, Any] = {
        "retries": {"max_attempts": 2, "mode": "standard"},
        "request_checksum_calculation": "when_required",  # stores that are not Amazon's do not know the newer ones
        "response_checksum_validation": "when_required",
        "s3": {"payload_signing_enabled": True},
    }
    given: dict[str, Any] = {}
    try:
        session = botocore.session.Session()
        if credential is not None:
            key, secret = credential.need("accessKeyId", "secretAccessKey")
            given = {"aws_access_key_id": key, "aws_secret_access_key": secret}
            given |= {"aws_session_token": credential.values.get("sessionToken")} if credential.values.get("sessionToken") else {}
            given |= {"endpoint_url": credential.values["endpoint"]} if credential.values.get("endpoint") else {}
        elif not web.rules.trusting or session.get_credentials() is None:  # a worker has no rights of its own to lend
            options["signature_version"] = UNSIGNED
        region = (credential.values.get("region") if credential else None) or session.get_config_variable("region") or "us-east-1"
        client = session.create_client("s3", region_name=region, config=Config(**options), **given)
    except (botocore.exceptions.BotoCoreError, ValueError) as error:
        raise SourceError(
            "the store's configuration cannot be used",
            field="s3://",
            found=str(error)[:300],
            allowed="AWS_* variables or a credential, with an endpoint such as https://HOST",
            fix="check them",
        ) from error

    def send(request: Any, **_: Any) -> Any:
        headers = {
            name: value.decode("latin-1") if isinstance(value, bytes) else str(value) for name, value in request.headers.items()
        }
        body = request.body if request.body not in (None, b"", "") else (b"" if request.method in ("PUT", "POST") else None)
        answer = web.send(request.method, request.url, headers, body=body, redirects=0)
        response = AWSResponse(request.url, answer.status, dict(answer.headers), answer.raw)
        if not request.stream_output or answer.status >= 300:
            _ = response.content  # reads it, so that the connection is free
        return response

    client.meta.events.register("before-send.s3", send)
    return client


def list_s3(web: Web, uri: str, credential: Credential | None = None) -> Listing:
    """Ask what a URI names.

    Raises:
        SourceError, UnsafeSource, EnvironmentProblem: it is no such URI, is not open to us, or the store does not answer.
    """
    bucket, key = parse_s3(uri)
    client = connect(web, credential)
    place = f"{client.meta.endpoint_url} s3://{bucket}/{key}"
    with explained(uri):
        if not key.endswith(SINGLE):
            files = _below(client, bucket, f"{key}/" if key else "")
            if not files:
                raise SourceError(
                    "nothing is there",
                    field="uri",
                    found=uri,
                    allowed=f"a prefix, or a file {', '.join(SINGLE)}",
                    fix="check the name",
                )
            return Listing(place, files, f"s3://{bucket}/{key}")
        folder, _, name = key.rpartition("/")
        found = _there(client, bucket, (key, key + SUFFIX))
        told = client.head_object(Bucket=bucket, Key=found)
        file = _file(client, bucket, found, int(told["ContentLength"]), told)
        beside: dict[str, RemoteFile] = {}
        if name.endswith(".onnx"):  # it brings its tokenizer, its configuration and its numbers
            others = (".onnx", ".csv", ".jsonl", ".parquet", ".safetensors")
            everything = _below(client, bucket, f"{folder}/" if folder else "")
            beside = {
                other: each for other, each in everything.items() if "/" not in other and not plain_name(other).endswith(others)
            }
        return Listing(place, {**beside, found.rpartition("/")[2]: file}, f"s3://{bucket}/{key}", single=name)


def _there(client: Any, bucket: str, keys: tuple[str, str]) -> str:
    """Return which of two keys is there: the second where the first is not."""
    import botocore.exceptions

    try:
        client.head_object(Bucket=bucket, Key=keys[0])
    except botocore.exceptions.ClientError as error:
        # 403: without the right to list, a store says so of what is not there.
        if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") not in (403, 404):
            raise
        try:
            client.head_object(Bucket=bucket, Key=keys[1])
        except botocore.exceptions.ClientError:
            return keys[0]  # whose error is the one to tell
        return keys[1]
    return keys[0]


def _below(client: Any, bucket: str, prefix: str) -> dict[str, RemoteFile]:
    found: dict[str, RemoteFile] = {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for each in page.get("Contents") or []:
            name = str(each["Key"]).removeprefix(prefix)
            if name and not name.endswith("/"):
                found[name] = _file(client, bucket, str(each["Key"]), int(each["Size"]), each)
    return found


def _file(client: Any, bucket: str, key: str, size: int, told: Mapping[str, Any]) -> RemoteFile:
    etag, changed = told.get("ETag"), told.get("LastModified")
    # A gateway over a file system may know no ETag of what was put there without it.
    same = {"IfMatch": etag} if etag else {}

    @contextlib.contextmanager
    def opened(offset: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        if size == 0:
            yield 0, iter(())
            return
        wanted = {"Range": f"bytes={offset}-"} if offset else {}
        with explained(f"s3://{bucket}/{key}"):
            answer = client.get_object(Bucket=bucket, Key=key, **same, **wanted)
        body = answer["Body"]
        try:
            yield offset, _blocks(body)
        finally:
            body.close()

    return RemoteFile(size, str(etag or changed or ""), opened)


def _blocks(body: Any) -> Iterator[bytes]:
    import botocore.exceptions
    import urllib3.exceptions

    try:
        yield from body.iter_chunks(_BLOCK)
    except (botocore.exceptions.BotoCoreError, urllib3.exceptions.HTTPError, OSError) as error:
        raise ConnectionError(f"{type(error).__name__}: {error}"[:200]) from error


@contextlib.contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turn what botocore raises into what a user can mend; `Changed` where the object is another one by now."""
    import botocore.exceptions

    try:
        yield
    except botocore.exceptions.ClientError as error:
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        code = str(error.response.get("Error", {}).get("Code", ""))
        if status in (412, 416):
            raise Changed from error
        found = f"{uri}: {status} {code}"
        if status in (401, 403):
            raise SourceError(
                "the bucket is not open to us",
                field="uri",
                found=found,
                allowed="a bucket that this key may read (and list)",
                fix="in a cluster: spec.credentials with accessKeyId and secretAccessKey; else AWS_ACCESS_KEY_ID or AWS_PROFILE",
            ) from error
        if status == 404:
            raise SourceError(
                "nothing is there", field="uri", found=found, allowed="s3://BUCKET/PREFIX", fix="check the name"
            ) from error
        kind = EnvironmentProblem if status == 429 or status >= 500 else SourceError
        raise kind("the store refuses", field="uri", found=f"{found} {error}"[:300], fix="try again later") from error
    except botocore.exceptions.BotoCoreError as error:
        raise EnvironmentProblem(
            "the store cannot be asked",
            field="uri",
            found=f"{uri}: {error}"[:300],
            fix="check the connection and AWS_ENDPOINT_URL",
        ) from error
