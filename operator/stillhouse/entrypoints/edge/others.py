"""Where the other models of a gateway on this machine are: as it was said, else where `still up` serves them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stillhouse.api.cascade import Cascade, Larger
from stillhouse.api.cut import Cut
from stillhouse.api.edge import Edge
from stillhouse.clients.store.files import read_sealed
from stillhouse.clients.store.local import LocalStore
from stillhouse.entrypoints.edge.brokers import SCHEMES, behind_broker
from stillhouse.entrypoints.edge.given import Given
from stillhouse.errors import UsageError
from stillhouse.inference.halves import UPPER
from stillhouse.triton.birth import runs

__all__ = ["at_address", "larger_at", "middle_at", "nowhere", "served_here", "step_at", "upper"]

_ADDRESSES = "grpcs://HOST:PORT or grpc://HOST:PORT; mqtts://HOST:PORT or mqtt://HOST:PORT of a broker"


def upper(store: LocalStore, name: str, cut: Cut, given: Given) -> dict[str, Any]:
    """Return the server of the upper half of a model that was cut.

    Raises:
        UsageError: nobody has said where it is, or what was said is no address.
    """
    address = given.cloud or cut.address or served_here(store, name)
    if address is None:
        raise nowhere("nobody has said where the upper half is", "spec.edge.cut.address", name, store)
    return at_address(name + UPPER, address, given)


def larger_at(store: LocalStore, edge: Edge, name: str, file: Path, given: Given) -> dict[str, Any]:
    """Return the server of the larger model.

    Raises:
        UsageError: nobody has said where it is, or what was said is no address.
    """
    assert edge.cascade is not None
    larger: Larger = edge.cascade.larger
    address = given.cloud or larger.address or served_here(store, larger.model)
    if address is None:
        raise nowhere(
            "nobody has said where the larger model is",
            "spec.edge.cascade.larger.address",
            larger.model,
            store,
            _asked_before(store, name, file),
        )
    return at_address(larger.model, address, given)


def middle_at(
    store: LocalStore, cascade: Cascade, artifact: Mapping[str, Any], file: Path, given: Given
) -> dict[str, Any] | None:
    """Return the server of the model between; None where the file has none. `artifact`: what was solved, `cascade.json`.

    Raises:
        UsageError: nobody has said where it is, or the thresholds were solved with another one.
    """
    if cascade.middle is None:
        return None
    name = cascade.middle.model
    solved = artifact.get("middle") or {}
    said = given.middle or cascade.middle.address
    here = None if said else served_here(store, name)
    digest = (store.state(name).get("revision") or {}).get("digest")
    if solved.get("model") != name or (here and digest != solved["digest"]):
        raise UsageError(
            "the thresholds were solved with another model between",
            field="spec.edge.cascade.middle.model",
            found=f"{name} {digest or ''}".strip(),
            allowed=f"{solved.get('model', 'none')} {solved.get('digest', '')}".strip(),
            fix=f"still build {file}",
        )
    address = said or here
    if address is None:
        raise UsageError(
            "nobody has said where the model between is",
            field="spec.edge.cascade.middle.address",
            found=f"{name}, which no still up serves here",
            allowed="grpcs://HOST:PORT or grpc://HOST:PORT",
            fix=f"give --middle grpcs://HOST:PORT, or serve it here: still up FILE of {name}",
        )
    if not address.startswith(("grpc://", "grpcs://")):
        raise UsageError("this is no address", field="--middle", found=address, allowed="grpcs://HOST:PORT or grpc://HOST:PORT")
    return at_address(name, address, Given(cloud_authority=given.cloud_authority) if address.startswith("grpcs:") else Given())


def step_at(store: LocalStore, model: str, given: Given) -> dict[str, Any]:
    """Return the server of a pipeline's step.

    Raises:
        UsageError: nobody has said where it is, or what was said is no address.
    """
    address = served_here(store, model) or given.cloud
    if address is None:
        raise nowhere("nobody has said where a step's model is", "spec.pipeline.steps", model, store)
    return at_address(model, address, given if address == given.cloud else Given())


def _asked_before(store: LocalStore, name: str, file: Path) -> str:
    """Return the line that starts a gateway as the one before it: it answers by its own model until the larger one is back."""
    try:
        before = json.loads((store.root / "edge" / name / "gateway.json").read_bytes())
        larger = before["cascade"]["larger"]
        scheme, address = "grpcs" if larger["tls"] else "grpc", next(iter(larger["backends"]))
        authority = larger.get("authority")
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return ""
    words = ["still", "edge", str(file), "--cloud", f"{scheme}://{address}"]
    return shlex.join([*words, *(["--cloud-authority", authority] if authority else [])])


def nowhere(message: str, field: str, model: str, store: LocalStore, before: str = "") -> UsageError:
    """Return what is missing. `before`: the line that goes on with the address that the last gateway had."""
    built = store.state(model).get("file")
    served = f"still up --detach {shlex.quote(built)}" if built else f"still up --detach FILE of {model}"
    return UsageError(
        message,
        field=field,
        found=f"{model}, which no still up serves here",
        allowed=_ADDRESSES,
        fix=f"serve it here: {served}; or "
        + (f"ask where the last gateway asked: {before}" if before else "give --cloud grpcs://HOST:PORT"),
    )


def at_address(model: str, address: str, given: Given) -> dict[str, Any]:
    """Return a server or a broker as the gateway's configuration has it.

    Raises:
        UsageError: nobody has said where it is, or what was said is no address.
    """
    scheme, _, rest = address.partition("://")
    if scheme in SCHEMES:
        return behind_broker(model, address, given.cloud_authority, given.at_broker)
    if given.at_broker.given:
        field = "--cloud-username-file, --cloud-certificate, --cloud-device, …"
        raise UsageError("these are shown to a broker", field=field, found=address, allowed="with mqtts:// or mqtt:// only")
    if scheme not in ("grpc", "grpcs") or ":" not in rest:
        raise UsageError("this is no address", field="--cloud", found=address, allowed=_ADDRESSES)
    authority = str(given.cloud_authority.absolute()) if given.cloud_authority else None
    if authority and scheme == "grpc":
        raise UsageError("without TLS there is no authority", field="--cloud-authority", found=address, fix="write grpcs://")
    return {
        "kind": "backends",
        "model": model,
        "backends": {rest: 1.0},
        "tls": scheme == "grpcs",
        "authority": authority,
    }


def served_here(store: LocalStore, name: str) -> str | None:
    """Return where `still up` serves a model here, None where it does not: from its record, without anything of Triton."""
    record = read_sealed(store.run_dir(name) / "server.json") or {}
    handle = record.get("handle") or {}
    if not handle or not runs(int(handle.get("pid", 0)), str(handle.get("birth", ""))):
        return None
    return f"grpc://{handle['host']}:{handle['grpc_port']}"
