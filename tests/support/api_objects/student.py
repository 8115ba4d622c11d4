"""`distill.student`: the shapes that a student may have."""

from __future__ import annotations

from tests.support.api_objects.case import Case
from tests.support.api_objects.fields import CNN, CONVOLVED, PLAIN, SOFT, STUDENT
from tests.support.api_objects.resources import Object

__all__ = ["INVALID", "VALID"]


def _kind(name: str, student: Object, says: str) -> Case:
    """Return a student of another kind than a transformer, with a loss that it can have."""
    return Case(name, "text", {STUDENT: student, SOFT: PLAIN}, STUDENT, says)


VALID: tuple[Case, ...] = (
    Case(
        "a residual student", "text", {"spec.distill.student": {"architecture": "residual", "hiddenSize": 192, "init": "static"}}
    ),
    Case("a residual student of the teacher's width", "text", {"spec.distill.student": {"architecture": "residual"}}),
    Case("an encoder, said explicitly", "text", {"spec.distill.student.architecture": "encoder"}),
    Case("a convolutional student", "text", {STUDENT: CNN, SOFT: [{"kind": "embedding"}]}),
    Case("a recurrent student", "text", {STUDENT: {"architecture": "bilstm", "hiddenSize": 64}, SOFT: [{"kind": "pooled"}]}),
    Case("a residual student of convolutions", "text", {STUDENT: CONVOLVED, SOFT: [{"kind": "embedding"}]}),
    Case("a bag with pairs", "text", {STUDENT: {"architecture": "mlp", "bigrams": 4096}, SOFT: [{"kind": "embedding"}]}),
    Case("an image's convolutions", "image", {STUDENT: {"architecture": "cnn", "convolution": {"channels": [8, 16]}}}),
    Case("an image's numbers", "image", {STUDENT: {"architecture": "mlp", "hiddenLayers": 2, "init": "random"}}),
    Case("layers at the teacher's width", "text", {"spec.distill.student": {"hiddenLayers": 2, "init": "layers"}}),
)

INVALID: tuple[Case, ...] = (
    Case("heads of a cnn", "text", {STUDENT: {"architecture": "cnn", "attentionHeads": 4}, SOFT: PLAIN}, STUDENT, "have none"),
    Case("layers into a cnn", "text", {STUDENT: {"architecture": "cnn", "init": "layers"}, SOFT: PLAIN}, STUDENT, "start from"),
    Case("narrow vectors of an encoder", "text", {STUDENT: {"embeddingSize": 64}}, STUDENT, "embeddingSize belongs"),
    Case(
        "pooling of a bag",
        "text",
        {STUDENT: {"architecture": "mlp", "pooling": "max"}, SOFT: PLAIN},
        STUDENT,
        "pooling belongs",
    ),
    Case(
        "kernels of an lstm",
        "text",
        {STUDENT: {**CNN, "architecture": "bilstm"}, SOFT: PLAIN},
        STUDENT,
        "belongs to architecture",
    ),
    Case(
        "pairs of an lstm",
        "text",
        {STUDENT: {"architecture": "bilstm", "bigrams": 512}, SOFT: PLAIN},
        STUDENT,
        "bigrams belongs",
    ),
    _kind("half a direction", {"architecture": "bilstm", "hiddenSize": 33}, "even"),
    Case("heads of convolutions", "text", {STUDENT: {**CONVOLVED, "attentionHeads": 4}, SOFT: PLAIN}, STUDENT, "attention's"),
    Case("convolutions of an encoder", "text", {STUDENT: {"convolution": {"kernelSizes": [3]}}}, STUDENT, "cnn and residual"),
    Case(
        "stages of a residual student",
        "text",
        {STUDENT: {**CONVOLVED, "convolution": {"channels": [8]}}, SOFT: PLAIN},
        STUDENT,
        "channels belongs to architecture cnn",
    ),
    Case("dilated without end", "text", {STUDENT: {**CONVOLVED, "hiddenLayers": 11}, SOFT: PLAIN}, STUDENT, "beyond any text"),
    Case("an lstm of images", "image", {STUDENT: {"architecture": "bilstm"}}, STUDENT, "take texts"),
    Case("tokens of an image", "image", {STUDENT: {"architecture": "mlp", "bigrams": 512}}, STUDENT, "students of texts"),
    Case("kernels of an image", "image", {STUDENT: CNN}, STUDENT, "students of texts"),
    Case(
        "stages of a text",
        "text",
        {STUDENT: {"architecture": "cnn", "convolution": {"channels": [8]}}, SOFT: PLAIN},
        STUDENT,
        "image-classification",
    ),
    Case(
        "a shape and a model",
        "text",
        {"spec.distill.student.uri": "file://small"},
        "spec.distill.student",
        "only one of them",
    ),
    Case(
        "a model and a factory",
        "image",
        {"spec.distill.student.uri": "file://small"},
        "spec.distill.student",
        "only one of them",
    ),
    Case(
        "heads that do not divide",
        "text",
        {"spec.distill.student.attentionHeads": 7},
        "spec.distill.student.hiddenSize",
        "multiple of attentionHeads",
    ),
    Case(
        "layers at another width",
        "text",
        {"spec.distill.student.init": "layers"},
        "spec.distill.student.hiddenSize",
        "copies the teacher's layers",
    ),
    Case(
        "a residual student with the teacher's singular directions",
        "text",
        {"spec.distill.student.architecture": "residual"},
        "spec.distill.student.init",
        "starts from static token vectors",
    ),
    Case(
        "a residual student that classifies",
        "class",
        {"spec.distill.student": {"architecture": "residual", "hiddenSize": 64}},
        "spec.distill.student.architecture",
        "belongs to task sentence-embedding",
    ),
    Case(
        "an architecture of a model of its own",
        "class",
        {"spec.distill.student.architecture": "encoder"},
        "spec.distill.student",
        "only one of them",
    ),
)
