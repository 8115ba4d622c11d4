"""The student before training: which kind is made, and what is saved and told of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from stillhouse.errors import SpecError
from stillhouse.inference.text import TOKENIZER_FILE
from stillhouse.passes.base import Artifact, Context, Pass
from stillhouse.passes.distill.checkpoint import seed_everything
from stillhouse.passes.distill.residual import check_teacher
from stillhouse.passes.distill.rows import Rows
from stillhouse.passes.distill.search.shapes import found_shape
from stillhouse.passes.distill.students.config import StudentConfig
from stillhouse.passes.distill.students.encoder import encoder_student
from stillhouse.passes.distill.students.factory import factory_student
from stillhouse.passes.distill.students.facts import StudentFacts, VocabularyFacts, facts_of
from stillhouse.passes.distill.students.features import feature_student
from stillhouse.passes.distill.students.residual import residual_student
from stillhouse.passes.distill.students.small import small_image_student, small_text_student
from stillhouse.passes.distill.students.vocabulary import StudentVocabulary
from stillhouse.passes.distill.vocabulary import check_size
from stillhouse.passes.models.artifact import load, save
from stillhouse.passes.models.network import Network, count_parameters
from stillhouse.passes.sources.tokenizer import vocabulary_rows

__all__ = ["InitStudent", "StudentConfig", "StudentFacts"]

_SMALL = ("cnn", "bilstm", "mlp")


class InitStudent(Pass[StudentConfig, StudentFacts]):
    """Make the student of a teacher: a smaller network of the same family, one of another kind, or a Python function's."""

    name: ClassVar[str] = "student"
    version: ClassVar[int] = 4
    kind: ClassVar[str] = "torch-model"
    config_type = StudentConfig

    def __init__(self, answers: dict[int, Tensor] | None = None) -> None:
        """`answers`: the teacher's about a sample of the rows, which a search's shapes share (see `StudentVocabulary`)."""
        self._answers = answers

    def run(self, config: StudentConfig, inputs: Mapping[str, Artifact], ctx: Context) -> StudentFacts:
        """Fill `ctx.out` with a torch-model artifact.

        Raises:
            SpecError: the shape does not fit itself or the teacher.
            DataError: the data has no rows, or the teacher's outputs belong to other rows.
            SourceError: a factory's network cannot be exported.
        """
        torch.set_num_threads(ctx.threads)
        seed_everything(config.seed)
        if "search" in inputs:
            config = config.model_copy(update=found_shape(inputs["search"]))
        ctx.progress.update(0, None, "", "loading the teacher")
        # A search has both: whoever teaches, first weights and tokens are of the source.
        folder = (inputs.get("origin") or inputs["teacher"]).path
        teacher = load(folder, role="teacher")
        signature = teacher.signature
        images = signature.image is not None
        small = config.architecture in _SMALL
        if config.factory is not None or (small and images) or signature.features is not None:
            made = config.factory
            if made is not None:
                if images and "data" in inputs:
                    Rows.of(inputs).arrays(signature)  # another shape than the file's is not the function's fault
                student = factory_student(made, config, signature)
            elif images:
                student = small_image_student(config, teacher)
            else:
                student = feature_student(config, signature, Rows.of(inputs))
            _warn_if_larger(student.network, teacher, ctx)
            save(student.network, ctx.out, tokenizer=folder / TOKENIZER_FILE if signature.takes_texts else None)
            if made is not None and config.exported:  # better now than after its training
                from stillhouse.passes.export.onnx import require_exportable  # onnx: no other student needs it

                require_exportable(ctx.out, lambda what: ctx.progress.update(0, None, "", f"trying to export: {what}"))
            return facts_of(student, VocabularyFacts(), config.seed)
        if not small and (teacher.config is None or images):
            raise SpecError(
                "a student's shape can be given for a Hugging Face text model only",
                field="spec.distill.student",
                found=f"a teacher of kind {teacher.architecture.kind} for {teacher.signature.task}",
                allowed="architecture cnn or mlp" if images else "architecture cnn, bilstm or mlp",
                fix="architecture: cnn, or give the student as a factory (module:function) or as a model of its own (uri)",
            )
        if config.architecture == "residual":
            check_teacher(teacher)
        vocabulary = StudentVocabulary(teacher, folder, Rows.of(inputs), config, ctx, self._answers)
        if small:
            student = small_text_student(config, teacher, vocabulary)
        elif config.architecture == "residual":
            outputs = inputs["outputs"].path if "outputs" in inputs else None
            student = residual_student(config, teacher, vocabulary, outputs, ctx.progress)
        else:
            student = encoder_student(config, teacher, vocabulary, ctx.progress)
        _warn_if_larger(student.network, teacher, ctx)
        save(student.network, ctx.out, tokenizer=vocabulary.tokenizer)
        return facts_of(student, vocabulary.facts(student.network.signature), config.seed)

    def foresee(self, config: StudentConfig, inputs: Mapping[str, Artifact]) -> None:
        """Refuse a vocabulary that is too small before a teacher is asked about every row.

        A teacher that is fine-tuned first is no import, and its vocabulary is looked at once it is there.

        Raises:
            SpecError: fewer tokens than must stay.
            SourceError: a kind of tokenizer that cannot be trimmed.
        """
        origin = inputs.get("origin") or inputs.get("teacher")
        tokenizer = origin.path / TOKENIZER_FILE if origin is not None else None
        if tokenizer is None or not tokenizer.is_file() or config.factory is not None or config.vocabulary_size is None:
            return
        if config.vocabulary_size < vocabulary_rows(tokenizer.parent):
            check_size(json.loads(tokenizer.read_text(encoding="utf-8")), config.vocabulary_size)


def _warn_if_larger(student: Network, teacher: Network, ctx: Context) -> None:
    """Say that a student has more parameters than its teacher: it may be meant, and costs more than it spares."""
    mine, theirs = count_parameters(student)[0], count_parameters(teacher)[0]
    if mine > theirs > 0:  # of a graph nobody has counted
        ctx.progress.note(f"the student is larger than its teacher: {mine:,} parameters, the teacher has {theirs:,}")
