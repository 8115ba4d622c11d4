"""From a file and what was built of it to the configuration of a gateway on this machine."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stillhouse.api.cascade import Cascade, Larger
from stillhouse.api.cut import Cut
from stillhouse.api.edge import Edge
from stillhouse.api.load import load_file
from stillhouse.api.model import DistilledModel
from stillhouse.clients.store.files import read_sealed, write_json
from stillhouse.clients.store.local import LocalStore
from stillhouse.entrypoints.edge.brokers import SCHEMES, AtBroker, behind_broker
from stillhouse.entrypoints.edge.steps import write_steps
from stillhouse.errors import StoreError, UsageError
from stillhouse.inference.halves import UPPER
from stillhouse.planning.build import request_hash
from stillhouse.planning.gateway import Place, gateway_config
from stillhouse.planning.pipeline import pipeline_config, step_models
from stillhouse.triton.birth import runs

__all__ = ["Given", "Prepared", "prepare"]

GRPC, REST, METRICS = 8101, 8100, 8102
"""Where a gateway listens if nothing is said; Triton's servers take ports from 8001 up."""
_ADDRESSES = "grpcs://HOST:PORT or grpc://HOST:PORT; mqtts://HOST:PORT or mqtt://HOST:PORT of a broker"


@dataclass(frozen=True, slots=True)
class Given:
    """What the command line says: addresses, files of certificates, tokens and keys; of steps what they read and may call."""

    cloud: str | None = None
    cloud_authority: Path | None = None
    at_broker: AtBroker = field(default_factory=AtBroker)
    middle: str | None = None
    host: str = "127.0.0.1"
    port: int = GRPC
    rest_port: int = REST
    metrics_port: int = METRICS
    certificate: Path | None = None
    key: Path | None = None
    client_authority: Path | None = None
    tokens: Path | None = None
    audit_key: Path | None = None
    threads: int = 1
    files: Path | None = None
    allowed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A configuration on disk, and what is to be said of it. `cascade` is the artifact's, with the solved threshold, or None.

    `missing`: what the file asks for and nobody has given here, since the file names Secrets of a cluster. `older`: that the
    revision which serves is of another file than this, empty where it is not.
    """

    name: str
    config: Path
    settings: Mapping[str, Any]
    cascade: Mapping[str, Any] | None
    missing: tuple[str, ...] = ()
    older: str = ""


def prepare(store: LocalStore, file: Path, given: Given) -> Prepared:
    """Write the configuration.

    Raises:
        SpecError: the file is wrong. UsageError: it names no gateway, nothing was built of it, or nobody knows where the larger
            model is. StoreError: what was built is damaged.
    """
    model = load_file(file)
    edge, name = model.spec.edge, model.metadata.name
    if edge is None:
        raise UsageError(
            "this file has no gateway", field="spec.edge", found="left out", fix="write edge: {} for one without a cascade"
        )
    missing = _missing(edge, given)
    if edge.preprocess is not None:
        return dataclasses.replace(_of_steps(store, model, file, given), missing=missing)
    revision = _revision(store, model, file)
    for digest in filter(None, (revision["digest"], revision.get("cascade"), revision.get("cut"))):
        problem = store.objects.check(digest)
        if problem:
            raise StoreError(f"what was built is damaged: {problem}", field=name, fix=f"still build {file}")
    data = store.root / "edge" / name
    larger = _larger(store, edge, name, file, given) if edge.cascade else None
    folder = str(store.objects.path(revision["cascade"])) if revision.get("cascade") else ""
    leg = _engine(store, revision, given)
    if edge.cut is not None:
        larger = _upper(store, name, edge.cut, given)
        leg |= {"kind": "lower", "folder": str(store.objects.path(revision["cut"]))}
    place = _place(leg, folder, data, larger, given)
    if edge.cascade is not None and (middle := _middle(store, edge.cascade, folder, file, given)):
        place = dataclasses.replace(place, middle=middle)
    at = {each: _step(store, each, given) for each in step_models(model.spec)}
    if at:
        place = dataclasses.replace(place, extra={**place.extra, "pipeline": pipeline_config(model.spec, at)})
    config = gateway_config(name, edge, place)
    target = _written(store, data, config)
    cascade = None
    if config["cascade"]:
        cascade = json.loads((Path(config["cascade"]["folder"]) / "cascade.json").read_bytes())
    return Prepared(name, target, config, cascade, missing, _older(model, file, revision))


def _older(model: DistilledModel, file: Path, revision: Mapping[str, Any]) -> str:
    """Say that the file has changed since the revision was built; what builds of before have not written down is not told."""
    built, asked = str(revision.get("fileHash") or ""), request_hash(model, {})
    if not built or built == asked:
        return ""
    when = f", built {revision['time']}" if revision.get("time") else ""
    return (
        f"revision {revision['digest'][7:19]} serves{when} from request {built[:12]}; {file} asks for {asked[:12]} now, which is"
        f" not built: still build {file}"
    )


def _missing(edge: Edge, given: Given) -> tuple[str, ...]:
    """Return what the file asks for by a Secret of a cluster, and no option gives here.

    Raises:
        UsageError: it asks for tokens, and other machines could ask without one.
    """
    if edge.clients.tokens and given.tokens is None and not _of_this_machine(given.host):
        raise UsageError(
            "the file asks for tokens, and there are none here: everybody who reaches this address could ask",
            field="--tokens",
            found=f"spec.edge.clients.tokens: {edge.clients.tokens}, a Secret of a cluster; --host {given.host}",
            fix="give --tokens FOLDER, with a file for each client: its name, in it its token",
        )
    asked = {
        "clients.tokens: everybody on this machine may ask; give --tokens FOLDER": edge.clients.tokens and not given.tokens,
        "tls: nothing is encrypted; give --tls-certificate and --tls-key": edge.tls and not given.certificate,
        "guard.audit.key: records have no MAC; give --audit-key FILE": (
            edge.guard and edge.guard.audit and edge.guard.audit.key and not given.audit_key
        ),
    }
    return tuple(f"spec.edge.{said}" for said, holds in asked.items() if holds)


def _of_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _of_steps(store: LocalStore, model: DistilledModel, file: Path, given: Given) -> Prepared:
    """Write the configuration of a gateway that only preprocesses: nothing need have been built here."""
    edge, name = model.spec.edge, model.metadata.name
    assert edge is not None and edge.preprocess is not None
    steps = edge.preprocess
    address = given.cloud or steps.address or _served_here(store, steps.model)
    if address is None:
        raise _nowhere(
            "nobody has said where the model is that takes the features", "spec.edge.preprocess.address", steps.model, store
        )
    built = (store.state(name).get("revision") or {}).get("digest")
    folders = [given.files] if given.files else [*([store.objects.path(built)] if built else []), file.absolute().parent]
    data = store.root / "edge" / name
    folder = data / "steps"
    digest = write_steps(store, steps, folder, folders, frozenset(given.allowed))
    leg = {"kind": "steps", "folder": str(folder), "digest": digest, "variant": "steps", "allowed": list(given.allowed)}
    config = gateway_config(name, edge, _place(leg, "", data, _at(steps.model, address, given), given))
    return Prepared(name, _written(store, data, config), config, None)


def _written(store: LocalStore, data: Path, config: Mapping[str, Any]) -> Path:
    data.mkdir(parents=True, exist_ok=True)
    data.chmod(0o700)  # a queue and an audit log hold what clients sent
    target = data / "gateway.json"
    write_json(target, config, tmp=store.tmp)
    return target


def _engine(store: LocalStore, revision: Mapping[str, Any], given: Given) -> dict[str, Any]:
    return {
        "kind": "engine",
        "folder": str(store.objects.path(revision["digest"])),
        "digest": revision["digest"],
        "variant": revision["precision"],
        "threads": given.threads,
    }


def _place(leg: Mapping[str, Any], cascade: str, data: Path, larger: Mapping[str, Any] | None, given: Given) -> Place:
    if (given.certificate is None) != (given.key is None):
        raise UsageError(
            "a certificate and its key belong together", field="--tls-certificate, --tls-key", fix="give both, or none"
        )
    if given.client_authority is not None and given.certificate is None:
        raise UsageError(
            "clients show certificates over TLS only", field="--tls-client-authority", fix="give --tls-certificate too"
        )
    tls = None
    if given.certificate is not None:
        authority = str(given.client_authority.absolute()) if given.client_authority else None
        tls = {"certificate": str(given.certificate.absolute()), "key": str(given.key and given.key.absolute())}
        tls |= {"clientAuthority": authority} if authority else {}
    host = f"[{given.host}]" if ":" in given.host else given.host
    return Place(
        listen={
            "grpc": f"{host}:{given.port}",
            "rest": f"{host}:{given.rest_port}",
            "metrics": f"127.0.0.1:{given.metrics_port}",
        },
        edge=leg,
        larger=larger,
        cascade=cascade,
        data=str(data),
        tls=tls,
        tokens=str(given.tokens.absolute()) if given.tokens else None,
        audit_key=str(given.audit_key.absolute()) if given.audit_key else None,
    )


def _revision(store: LocalStore, model: DistilledModel, file: Path) -> dict[str, Any]:
    name = model.metadata.name
    revision: dict[str, Any] = store.state(name).get("revision") or {}
    if not revision:
        raise UsageError(
            "nothing has been built of this file here",
            field="FILE",
            found=name,
            fix=f"still build {file}; or bring what was built elsewhere: still pack {name}, and here still edge {name}.still.tar",
        )
    assert model.spec.edge is not None
    if model.spec.edge.cascade is not None and not revision.get("cascade"):
        raise UsageError(
            "what was built has no cascade: its threshold was not solved",
            field="spec.edge.cascade",
            found=f"revision {revision['digest'][7:19]}",
            fix=f"still build {file} (only the cascade is missing, what is there stays)",
        )
    if model.spec.edge.cut is not None and not revision.get("cut"):
        raise UsageError(
            "what was built is not cut",
            field="spec.edge.cut",
            found=f"revision {revision['digest'][7:19]}",
            fix=f"still build {file} (only the cut is missing, what is there stays)",
        )
    return revision


def _upper(store: LocalStore, name: str, cut: Cut, given: Given) -> dict[str, Any]:
    address = given.cloud or cut.address or _served_here(store, name)
    if address is None:
        raise _nowhere("nobody has said where the upper half is", "spec.edge.cut.address", name, store)
    return _at(name + UPPER, address, given)


def _step(store: LocalStore, model: str, given: Given) -> dict[str, Any]:
    address = _served_here(store, model) or given.cloud
    if address is None:
        raise _nowhere("nobody has said where a step's model is", "spec.pipeline.steps", model, store)
    return _at(model, address, given if address == given.cloud else Given())


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


def _larger(store: LocalStore, edge: Edge, name: str, file: Path, given: Given) -> dict[str, Any]:
    assert edge.cascade is not None
    larger: Larger = edge.cascade.larger
    address = given.cloud or larger.address or _served_here(store, larger.model)
    if address is None:
        raise _nowhere(
            "nobody has said where the larger model is",
            "spec.edge.cascade.larger.address",
            larger.model,
            store,
            _asked_before(store, name, file),
        )
    return _at(larger.model, address, given)


def _middle(store: LocalStore, cascade: Cascade, folder: str, file: Path, given: Given) -> dict[str, Any] | None:
    if cascade.middle is None:
        return None
    name = cascade.middle.model
    solved = json.loads((Path(folder) / "cascade.json").read_bytes()).get("middle") or {}
    said = given.middle or cascade.middle.address
    here = None if said else _served_here(store, name)
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
    return _at(name, address, Given(cloud_authority=given.cloud_authority) if address.startswith("grpcs:") else Given())


def _nowhere(message: str, field: str, model: str, store: LocalStore, before: str = "") -> UsageError:
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


def _at(model: str, address: str, given: Given) -> dict[str, Any]:
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


def _served_here(store: LocalStore, name: str) -> str | None:
    """Return where `still up` serves a model here, None where it does not: from its record, without anything of Triton."""
    record = read_sealed(store.run_dir(name) / "server.json") or {}
    handle = record.get("handle") or {}
    if not handle or not runs(int(handle.get("pid", 0)), str(handle.get("birth", ""))):
        return None
    return f"grpc://{handle['host']}:{handle['grpc_port']}"
