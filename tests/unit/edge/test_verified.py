"""What a gateway reads from a store that others write to is held against its digests first."""

from __future__ import annotations

from pathlib import Path

import pytest

from stillhouse.clients.store.local import LocalStore
from stillhouse.edge.config import Config
from stillhouse.entrypoints.edge.verified import verify
from stillhouse.errors import StoreError


def stored(store: LocalStore, text: str) -> str:
    folder = store.objects.new_dir()
    (folder / "file").write_text(text)
    return store.objects.put(folder, "model")[0]


def config(store: LocalStore, model: str, cascade: str, said: str = "") -> Config:
    edge = {"kind": "engine", "folder": store.objects.path(model), "digest": said or model}
    larger = {"kind": "backends", "model": "big", "backends": {"cloud:443": 1.0}}
    parts = {"version": 1, "name": "m", "listen": {"grpc": "127.0.0.1:0"}, "edge": edge}
    return Config.model_validate({**parts, "cascade": {"folder": store.objects.path(cascade), "larger": larger}})


def test_what_is_whole_is_used_and_what_is_not_is_named(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    model, cascade = stored(store, "model"), stored(store, "cascade")
    verify(config(store, model, cascade))
    with pytest.raises(StoreError, match=f"it is {model}"):
        verify(config(store, model, cascade, "sha256:" + "0" * 64))
    with pytest.raises(StoreError):
        verify(config(store, model, "sha256:" + "0" * 64))
    file = store.objects.path(cascade) / "file"
    file.chmod(0o644)
    file.write_text("cascadE")
    with pytest.raises(StoreError) as refused:
        verify(config(store, model, cascade))
    assert refused.value.problems[0].field == "cascade.folder"
