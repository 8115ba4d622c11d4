"""`--to s3://BUCKET/PREFIX`: one object a file, below the source's digest. Of a large file those parts stay that came."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from stillhouse.clients.sources.push.bundle import Bundle, Item, Pushed, Report
from stillhouse.clients.sources.remote.s3 import connect, explained, parse_s3
from stillhouse.clients.sources.remote.web import Web
from stillhouse.errors import SourceError

__all__ = ["PART", "S3Target"]

PART = 32 << 20
"""Bytes of a part; a file that has no more goes as a whole."""
_PARTS = 10_000
_SHA256 = "sha256"


class S3Target:
    """A bucket."""

    def __init__(self, web: Web, uri: str, *, part: int = PART) -> None:
        self._uri = uri
        self._bucket, self._prefix = parse_s3(uri)
        self._client = connect(web)
        self._part = part

    def push(self, bundle: Bundle, report: Report) -> Pushed:
        """Put a source into the bucket."""
        place = "/".join(part for part in (self._prefix, bundle.folder) if part)
        done = sent = 0
        with explained(self._uri):
            for name, item in bundle.files.items():
                key = f"{place}/{name}"
                if not self._has(key, item):

                    def told(count: int, before: int = done) -> None:
                        report(before + count, bundle.size)

                    sent += self._send(key, item, told)
                done += item.size
                report(done, bundle.size)
        return Pushed(f"s3://{self._bucket}/{place}" + (f"/{bundle.single}" if bundle.single else ""), sent)

    def _has(self, key: str, item: Item) -> bool:
        import botocore.exceptions

        try:
            there = self._client.head_object(Bucket=self._bucket, Key=key)
        except botocore.exceptions.ClientError as error:
            # 403: without the right to list, a store says so of what is not there.
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") in (403, 404):
                return False
            raise
        return bool(there["ContentLength"] == item.size and there.get("Metadata", {}).get(_SHA256) == item.sha256)

    def _send(self, key: str, item: Item, told: Callable[[int], None]) -> int:
        target: dict[str, Any] = {"Bucket": self._bucket, "Key": key}
        if item.size <= self._part:
            content = item.path.read_bytes()
            _refuse_changed(hashlib.sha256(content).hexdigest(), item)
            self._client.put_object(**target, Body=content, Metadata={_SHA256: item.sha256})
            told(item.size)
            return item.size
        return self._send_parts(target, item, told)

    def _send_parts(self, target: dict[str, Any], item: Item, told: Callable[[int], None]) -> int:
        """Send what is missing of a large file. The MD5 of a part, its ETag, says whether it is the one that is there."""
        size = max(self._part, -(-item.size // _PARTS))
        upload, there = self._begun(target) or (None, {})
        if upload is None:
            upload = str(self._client.create_multipart_upload(**target, Metadata={_SHA256: item.sha256})["UploadId"])
        parts, sent, done, whole = [], 0, 0, hashlib.sha256()
        with item.path.open("rb") as stream:
            for number in range(1, _PARTS + 1):
                content = stream.read(size)
                if not content:
                    break
                whole.update(content)
                etag = f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
                if there.get(number) != (len(content), etag):
                    answer = self._client.upload_part(**target, UploadId=upload, PartNumber=number, Body=content)
                    etag = str(answer["ETag"])
                    sent += len(content)
                parts.append({"PartNumber": number, "ETag": etag})
                done += len(content)
                told(done)
        try:
            _refuse_changed(whole.hexdigest(), item)
        except SourceError:
            self._client.abort_multipart_upload(**target, UploadId=upload)
            raise
        self._client.complete_multipart_upload(**target, UploadId=upload, MultipartUpload={"Parts": parts})
        return sent

    def _begun(self, target: dict[str, Any]) -> tuple[str, dict[int, tuple[int, str]]] | None:
        """Return the newest upload of this object that was begun and not ended, with its parts.

        Its key has the digest of the source in it, so whoever began it was sending these bytes.
        """
        pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=target["Bucket"], Prefix=target["Key"])
        begun = [each for page in pages for each in page.get("Uploads") or [] if each["Key"] == target["Key"]]
        if not begun:
            return None
        upload = str(max(begun, key=lambda each: each["Initiated"])["UploadId"])
        there = {
            int(part["PartNumber"]): (int(part["Size"]), str(part["ETag"]))
            for page in self._client.get_paginator("list_parts").paginate(**target, UploadId=upload)
            for part in page.get("Parts") or []
        }
        return upload, there


def _refuse_changed(found: str, item: Item) -> None:
    if found != item.sha256:
        raise SourceError(
            "the file was changed while it was sent", field=str(item.path), found=found, allowed=item.sha256, fix="run it again"
        )
