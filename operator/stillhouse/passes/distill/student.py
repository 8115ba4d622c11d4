"""The student before training: which kind is made, and what is saved and told of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

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
from stillhouse.passes.distill.students.residual import residual_student
from stillhouse.passes.distill.students.vocabulary import StudentVocabulary
from stillhouse.passes.models.artifact import load, save

__all__ = ["InitStudent", "StudentConfig", "StudentFacts"]


class InitStudent(Pass[StudentConfig, StudentFacts]):
    """Make the student of a teacher: a smaller network of the same family, or a Python function's."""

    name: ClassVar[str] = "student"
    version: ClassVar[int] = 3
    kind: ClassVar[str] = "torch-model"
    config_type = StudentConfig

    def run(self, config: StudentConfig, inputs: Mapping[str, Artifact], ctx: Context) -> StudentFacts:
        """Fill `ctx.out` with a torch-model artifact.

        Raises:
            SpecError: the shape does not fit itself or the teacher.
            DataError: the data has no rows, or the teacher's outputs belong to other rows.
        """
        torch.set_num_threads(ctx.threads)
        seed_everything(config.seed)
        if "search" in inputs:
            config = config.model_copy(update=found_shape(inputs["search"]))
        ctx.progress.update(0, None, "", "loading the teacher")
        # A search has both: whoever teaches, first weights and tokens are of the source.
        folder = (inputs.get("origin") or inputs["teacher"]).path
        teacher = load(folder, role="teacher")
        if config.factory is not None:
            student = factory_student(config.factory, config, teacher)
            images = teacher.signature.task == "image-classification"
            save(student.network, ctx.out, tokenizer=None if images else folder / TOKENIZER_FILE)
            return facts_of(student, VocabularyFacts(), config.seed)
        if teacher.config is None or teacher.signature.task == "image-classification":
            raise SpecError(
                "a student's shape can be given for a Hugging Face text model only",
                field="spec.distill.student",
                found=f"a teacher of kind {teacher.architecture.kind} for {teacher.signature.task}",
                fix="give the student as a factory (module:function) or as a model of its own (uri)",
            )
        if config.architecture == "residual":
            check_teacher(teacher)
        vocabulary = StudentVocabulary(teacher, folder, Rows.of(inputs), config, ctx)
        if config.architecture == "residual":
            outputs = inputs["outputs"].path if "outputs" in inputs else None
            student = residual_student(config, teacher, vocabulary, outputs, ctx.progress)
        else:
            student = encoder_student(config, teacher, vocabulary, ctx.progress)
        save(student.network, ctx.out, tokenizer=vocabulary.tokenizer)
        return facts_of(student, vocabulary.facts(student.network.signature), config.seed)
