"""`edge.cascade`: when the larger model is asked, and where it is."""

from __future__ import annotations

from tests.support.api_objects.case import GONE, Case, bad
from tests.support.api_objects.fields import CASCADE

__all__ = ["INVALID", "VALID"]

VALID: tuple[Case, ...] = (
    Case("a token for a model beside", "text", {"spec.edge.cascade.larger.address": GONE}),
    Case("a cascade by temperature", "class", {f"{CASCADE}.method": "temperature"}),
    Case(
        "an agreement of nearly everything",
        "class",
        {f"{CASCADE}.escalationBudget": GONE, f"{CASCADE}.targetAgreement": "99.9%"},
    ),
    Case("a model between", "class", {f"{CASCADE}.middle": {"model": "between", "address": "grpc://near:8001", "cost": "2.5"}}),
    Case(
        "a token for the model between",
        "class",
        {f"{CASCADE}.middle": {"model": "between", "address": "grpcs://near.example:443", "token": "near"}},
    ),
    Case("an address in brackets", "class", {f"{CASCADE}.larger.address": "grpc://[::1]:8001"}),
)

INVALID: tuple[Case, ...] = (
    bad("an address without a port", "text", f"{CASCADE}.larger.address", "grpcs://cloud.example"),
    bad("an address of another protocol", "text", f"{CASCADE}.larger.address", "https://cloud.example:443"),
    bad("a broker without a port", "text", f"{CASCADE}.larger.address", "mqtts://broker.example"),
    bad("an address with a user", "text", f"{CASCADE}.larger.address", "grpcs://me@cloud.example:443"),
    # Contradictions: rules over several fields.
    Case("no aim", "text", {f"{CASCADE}.targetAgreement": GONE}, f"{CASCADE}.targetAgreement", "write one of"),
    Case("both aims", "text", {f"{CASCADE}.escalationBudget": "10%"}, f"{CASCADE}.targetAgreement", "write one of"),
    bad("an agreement that no sample shows", "text", f"{CASCADE}.targetAgreement", "100%", "between 0% and 100%"),
    bad("an agreement of nothing", "text", f"{CASCADE}.targetAgreement", "0.0%", "between 0% and 100%"),
    bad("every input is usual", "text", f"{CASCADE}.outliers.keep", "100.0%", "between 0% and 100%"),
    bad("no input is usual", "text", f"{CASCADE}.outliers.keep", "00%", "between 0% and 100%"),
    Case(
        "temperature of embeddings",
        "text",
        {f"{CASCADE}.method": "temperature", f"{CASCADE}.judgedBy": "answer"},
        f"{CASCADE}.method",
        "classification",
    ),
    Case(
        "temperature by labels",
        "class",
        {f"{CASCADE}.method": "temperature", f"{CASCADE}.judgedBy": "labels"},
        f"{CASCADE}.method",
        "fitted to answers",
    ),
    bad("a model between of embeddings", "text", f"{CASCADE}.middle", {"model": "between"}, "classification tasks only"),
    Case(
        "a model between behind a broker",
        "class",
        {f"{CASCADE}.middle": {"model": "between", "address": "mqtts://broker:8883"}},
        f"{CASCADE}.middle.address",
        "asked by gRPC",
    ),
    Case(
        "a token shown to pods between",
        "class",
        {f"{CASCADE}.middle": {"model": "between", "token": "near"}},
        f"{CASCADE}.middle.token",
        "over TLS alone",
    ),
    bad("outliers of classes", "class", f"{CASCADE}.outliers", {}, "sentence-embedding only"),
    Case(
        "a token in the clear",
        "text",
        {"spec.edge.cascade.larger.address": "grpc://cloud.example:80"},
        "spec.edge.backendToken",
        "over TLS alone",
    ),
)
