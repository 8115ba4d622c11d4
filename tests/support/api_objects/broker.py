"""`edge.broker` and `serve.mqtt`: a broker of MQTT before a model, and behind a gateway."""

from __future__ import annotations

from tests.support.api_objects.case import GONE, Case
from tests.support.api_objects.fields import CASCADE, EDGE

__all__ = ["INVALID", "VALID"]

_MQTT = "spec.serve.mqtt"

VALID: tuple[Case, ...] = (
    Case(
        "a broker in the clear",
        "broker",
        {f"{CASCADE}.larger.address": "mqtt://broker:1883", f"{EDGE}.broker.certificate": GONE},
    ),
    Case("a bridge and no gateway", "broker", {EDGE: GONE, _MQTT: {"address": "mqtt://[::1]:1883"}}),
    Case("a bridge by the system's authorities", "broker", {f"{_MQTT}.backendAuthority": GONE, f"{_MQTT}.authority": GONE}),
)

INVALID: tuple[Case, ...] = (
    Case("a broker of nobody", "class", {f"{EDGE}.broker": {"credentials": "gateway"}}, f"{EDGE}.broker", "belongs to a larger"),
    Case(
        "a broker's certificate in the clear",
        "broker",
        {f"{CASCADE}.larger.address": "mqtt://b:1883"},
        f"{EDGE}.broker",
        "mqtts",
    ),
    Case("a bridge to a server", "broker", {f"{_MQTT}.address": "grpcs://cloud:443"}, f"{_MQTT}.address", ""),
    Case("a bridge without a port", "broker", {f"{_MQTT}.address": "mqtts://broker"}, f"{_MQTT}.address", ""),
    Case("a bridge's certificates in the clear", "broker", {f"{_MQTT}.address": "mqtt://b:1883"}, f"{_MQTT}.address", "mqtts"),
    Case(
        "a bridge without its token", "broker", {f"{_MQTT}.backendToken": GONE}, f"{_MQTT}.backendToken", "as one of its clients"
    ),
    Case("a bridge's token for nobody", "broker", {f"{EDGE}.clients": GONE}, f"{_MQTT}.backendToken", "as one of its clients"),
    Case("a bridge's authority of nobody", "broker", {f"{EDGE}.tls": GONE}, f"{_MQTT}.backendAuthority", "belongs to edge.tls"),
    Case(
        "a bridge without a certificate",
        "broker",
        {f"{EDGE}.tls.clientAuthority": "ca"},
        f"{_MQTT}.backendAuthority",
        "no certif",
    ),
    Case("no bridge", "broker", {f"{_MQTT}.replicas": 0}, f"{_MQTT}.replicas", ""),
)
