"""The gateway's configuration: what a spec says, in plain units, at a place."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from pydantic import ValidationError
from tests.support.api_objects import complete

from stillhouse.api.edge import Edge
from stillhouse.api.load import parse
from stillhouse.edge.config import Config
from stillhouse.edge.sections.places import Lower
from stillhouse.planning.gateway import Place, gateway_config

PLACE = Place(
    listen={"grpc": "0.0.0.0:8001", "rest": "0.0.0.0:8000", "metrics": "0.0.0.0:9090"},
    edge={"kind": "engine", "folder": "/model", "digest": "sha256:1", "variant": "int8", "threads": 1},
    larger={"kind": "backends", "model": "large", "backends": {"cloud:443": 1.0}, "tls": True, "authority": None},
    cascade="/cascade",
    data="/data",
    tokens="/tokens",
    audit_key="/key",
)


def test_everything_that_a_file_says_is_there_in_plain_units() -> None:
    edge = parse(complete("text")).spec.edge
    assert edge is not None
    config = gateway_config("m", edge, PLACE)

    assert json.loads(json.dumps(config, allow_nan=False)) == config
    assert config == {
        "version": 1,
        "name": "m",
        "listen": {"grpc": "0.0.0.0:8001", "rest": None, "metrics": "0.0.0.0:9090"},  # the file says rest: false
        "tls": None,
        "edge": PLACE.edge,
        "cascade": {"folder": "/cascade", "outliers": "refuse", "larger": PLACE.larger},
        "away": {"policy": "queue", "hedge": True, "queue": {"folder": "/data/queue", "maxSize": 1 << 30, "maxAge": 43200.0}},
        "clients": {"tokens": "/tokens", "rate": 100, "burst": 20, "concurrency": 8},
        "guard": {
            "maxRows": 64,
            "maxTextLength": 2000,
            "maxMessageSize": 4 << 20,
            "patterns": [
                {"name": "ticket", "regex": "TCK-[0-9]{6}", "named": None, "action": "mask"},
                {"name": "card", "regex": None, "named": "card", "action": "refuse"},
            ],
            "audit": {
                "folder": "/data/audit",
                "mode": "required",
                "key": "/key",
                "raw": True,
                "keep": 2_592_000.0,
                "maxSize": 2 << 30,
            },
        },
        "agreement": {
            "sample": 0.05,
            "minAgreement": 0.97,
            "maxDrift": 0.25,
            "collect": {"folder": "/data/collected", "maxSize": 16 << 20},
        },
        "prices": {"currency": "CHF", "cpuHour": 0.04, "cloudCall": 0.0005},
        "telemetry": {"endpoint": "http://collector:4318", "sample": 0.01},
        "maxInFlight": 256,
    }


def test_what_a_file_leaves_out_is_off() -> None:
    config = gateway_config("m", Edge(), PLACE)

    assert config["cascade"] is None
    assert config["guard"] is None
    assert config["agreement"] is None
    assert config["listen"]["rest"] == "0.0.0.0:8000"
    assert config["away"] == {"policy": "answer", "hedge": False, "queue": None}
    assert config["clients"] == {"tokens": "/tokens", "rate": None, "burst": None, "concurrency": None}


def test_a_cut_says_who_has_the_upper_half() -> None:
    edge = Edge.model_validate({"cut": {"layer": "encoder.2", "encoding": "fp16"}})
    lower = {**PLACE.edge, "kind": "lower"}
    made = gateway_config("m", edge, replace(PLACE, edge=lower))
    assert made["cut"] == {"upper": PLACE.larger}
    assert made["cascade"] is None
    read = Config.model_validate_json(json.dumps(made))
    assert isinstance(read.edge, Lower)
    for wrong in ({**made, "cut": None}, {**made, "edge": dict(PLACE.edge)}):
        with pytest.raises(ValidationError, match="belong together"):
            Config.model_validate_json(json.dumps(wrong))
