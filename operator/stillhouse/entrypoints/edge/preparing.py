"""From a file and what was built of it to the configuration of a gateway on this machine."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillhouse.api.load import load_with_lines
from stillhouse.api.model import DistilledModel
from stillhouse.clients.store.files import write_json
from stillhouse.clients.store.local import LocalStore
from stillhouse.entrypoints.edge.given import Given
from stillhouse.entrypoints.edge.others import at_address, larger_at, middle_at, nowhere, served_here, step_at, upper
from stillhouse.entrypoints.edge.record import refuse_second
from stillhouse.entrypoints.edge.remarks import missing, older, other_source
from stillhouse.entrypoints.edge.steps import packed_steps, write_steps
from stillhouse.entrypoints.local.patterns import refuse_patterns
from stillhouse.errors import StoreError, UsageError
from stillhouse.planning.build import request_hash
from stillhouse.planning.gateway import Place, gateway_config
from stillhouse.planning.pipeline import pipeline_config, step_models
from stillhouse.planning.steps import PRECISION

__all__ = ["Given", "Prepared", "prepare"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A configuration on disk, and what is to be said of it. `cascade` is the artifact's, with the solved threshold, or None.

    `remarks`: what the file asks for and nobody has given here, since the file names Secrets of a cluster; that the revision
    which serves is of another file than this, or the larger model of another source.
    """

    name: str
    config: Path
    settings: Mapping[str, Any]
    cascade: Mapping[str, Any] | None
    remarks: tuple[str, ...] = ()


def prepare(store: LocalStore, file: Path, given: Given) -> Prepared:
    """Write the configuration.

    Raises:
        SpecError: the file is wrong. UsageError: it names no gateway, nothing was built of it, or nobody knows where the larger
            model is. StoreError: what was built is damaged.
    """
    model, lines = load_with_lines(file)
    edge, name = model.spec.edge, model.metadata.name
    refuse_second(store, name)  # before anything of the one that runs is written anew
    if edge is None:
        raise UsageError(
            "this file has no gateway", field="spec.edge", found="left out", fix="write edge: {} for one without a cascade"
        )
    refuse_patterns(model, lines)
    remarks = missing(edge, given)
    if edge.preprocess is not None:
        return dataclasses.replace(_of_steps(store, model, file, given), remarks=remarks)
    revision = _revision(store, model, file)
    for digest in filter(None, (revision["digest"], revision.get("cascade"), revision.get("cut"))):
        problem = store.objects.check(digest)
        if problem:
            raise StoreError(f"what was built is damaged: {problem}", field=name, fix=f"still build {file}")
    data = store.root / "edge" / name
    larger = larger_at(store, edge, name, file, given) if edge.cascade else None
    folder = str(store.objects.opened(revision["cascade"])) if revision.get("cascade") else ""
    leg = _engine(store, revision, given)
    if edge.cut is not None:
        larger = upper(store, name, edge.cut, given)
        leg |= {"kind": "lower", "folder": str(store.objects.opened(revision["cut"]))}
    place = _place(leg, folder, data, larger, given)
    cascade = None
    if edge.cascade is not None:
        cascade = json.loads((Path(folder) / "cascade.json").read_bytes())
        if middle := middle_at(store, edge.cascade, cascade, file, given):
            place = dataclasses.replace(place, middle=middle)
    at = {each: step_at(store, each, given) for each in step_models(model.spec)}
    if at:
        place = dataclasses.replace(place, extra={**place.extra, "pipeline": pipeline_config(model.spec, at)})
    config = gateway_config(name, edge, place)
    target = _written(store, data, config)
    remarks += tuple(filter(None, (older(model, file, revision), other_source(store, model, revision))))
    return Prepared(name, target, config, cascade, remarks)


def _of_steps(store: LocalStore, model: DistilledModel, file: Path, given: Given) -> Prepared:
    """Write the configuration of a gateway that only preprocesses: what was built of this very file, else steps made here."""
    edge, name = model.spec.edge, model.metadata.name
    assert edge is not None and edge.preprocess is not None
    steps = edge.preprocess
    address = given.cloud or steps.address or served_here(store, steps.model)
    if address is None:
        raise nowhere(
            "nobody has said where the model is that takes the features", "spec.edge.preprocess.address", steps.model, store
        )
    data, allowed = store.root / "edge" / name, frozenset(given.allowed)
    built: dict[str, Any] = store.state(name).get("revision") or {}
    if given.files is None and built.get("precision") == PRECISION and built.get("fileHash") == request_hash(model, {}):
        folder, digest = packed_steps(store, built["digest"], file, allowed), str(built["digest"])
    else:
        there = [store.objects.opened(built["digest"])] if built else []
        folder = data / "steps"
        digest = write_steps(store, steps, folder, [given.files] if given.files else [*there, file.absolute().parent], allowed)
    leg = {"kind": "steps", "folder": str(folder), "digest": digest, "variant": PRECISION, "allowed": list(given.allowed)}
    config = gateway_config(name, edge, _place(leg, "", data, at_address(steps.model, address, given), given))
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
        "folder": str(store.objects.opened(revision["digest"])),
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
