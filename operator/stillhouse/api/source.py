"""Where models and data come from, and with which Secrets they are fetched."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, StringConstraints, WithJsonSchema, model_validator

from stillhouse.api.base import ApiModel, CelRule, Mistake, without_nulls
from stillhouse.api.features import FEATURE_RULES, Features, features_fit
from stillhouse.api.scalars import Column, DecimalString, Percent, Uri, once
from stillhouse.api.stage import EarlyStopping, Freeze

__all__ = [
    "TEXT_TASKS",
    "Columns",
    "Credential",
    "DataSource",
    "Factory",
    "Features",
    "FineTune",
    "Image",
    "Label",
    "ModelSource",
    "Task",
    "columns_of",
]

Task = Literal[
    "sentence-embedding", "text-classification", "image-classification", "tabular-classification", "time-series-classification"
]
TEXT_TASKS: tuple[Task, ...] = ("sentence-embedding", "text-classification")
"""Tasks whose models are shown texts; the others take arrays of one shape."""
Label = Annotated[str, StringConstraints(min_length=1, max_length=256)]


def _text_or_whole_number(value: Any) -> str | int:
    if isinstance(value, float) and value.is_integer():
        return int(value)  # JSON has one kind of number
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Mistake("an argument is text or a whole number; write booleans as 0 or 1 and fractions in quotes")
    if isinstance(value, str) and len(value) > 1024:
        raise Mistake("at most 1024 characters")
    return value


Argument = Annotated[
    str | int,
    PlainValidator(_text_or_whole_number),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "maxLength": 1024}),
]

_ONE_PER_CHANNEL = CelRule(
    "(size(self.mean) == 0 || size(self.mean) == self.channels) && (size(self.std) == 0 || size(self.std) == self.channels)",
    "mean and std need one number per channel, or none",
)
_STD_POSITIVE = CelRule("self.std.all(x, x.matches('[1-9]'))", "every std must be more than 0", "std")
_IMAGE_BELONGS = CelRule(
    "self.task == 'image-classification' || !has(self.image)", "image belongs to task image-classification only", "image"
)
_IMAGE_NEEDED = CelRule(
    "self.task != 'image-classification' || has(self.image)",
    "task image-classification needs image (height, width, channels)",
    "image",
)
_TUNED_TEXT = CelRule(
    "!has(self.fineTune) || self.task == 'text-classification' && !has(self.factory)",
    "fineTune makes a text-classification of an encoder that Hugging Face knows",
    "fineTune",
)
_RATES_POSITIVE = CelRule(
    "self.learningRate.matches('[1-9]') && self.headLearningRate.matches('[1-9]')",
    "learningRate and headLearningRate must be more than 0",
    "learningRate",
)
_SMOOTHED_SHARE = CelRule(
    "!has(self.labelSmoothing) || double(self.labelSmoothing) < 1.0", "labelSmoothing is a share: less than 1", "labelSmoothing"
)
_STOPPING_NEEDS_ROWS = CelRule(
    "!has(self.earlyStopping) || has(self.validation)",
    "earlyStopping needs validation: rows that say when the model gains no more",
    "earlyStopping",
)


class Factory(ApiModel):
    """A Python function that returns a `torch.nn.Module`."""

    target: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$", max_length=256)]
    """Where it is, as `module:function`; the module lies beside the file, or is installed."""
    arguments: Annotated[dict[str, Argument], Field(max_length=32), BeforeValidator(without_nulls)] = Field(default={})
    """Keyword arguments: text or whole numbers. Booleans are written as 0 or 1, numbers with a fraction in quotes."""


class Image(ApiModel):
    """Shape and normalisation of image inputs, layout channels × height × width."""

    height: Annotated[int, Field(ge=1, le=8192)]
    """Rows of pixels."""
    width: Annotated[int, Field(ge=1, le=8192)]
    """Columns of pixels."""
    channels: Annotated[int, Field(ge=1, le=16)] = 3
    """Channels, 3 for RGB."""
    mean: Annotated[tuple[DecimalString, ...], Field(max_length=16)] = ()
    """Mean per channel that is subtracted; empty means 0."""
    std: Annotated[tuple[DecimalString, ...], Field(max_length=16)] = ()
    """Standard deviation per channel that is divided by; empty means 1."""

    cel_rules = (_ONE_PER_CHANNEL, _STD_POSITIVE)

    @model_validator(mode="after")
    def _one_per_channel(self) -> Image:
        if any(values and len(values) != self.channels for values in (self.mean, self.std)):
            raise _ONE_PER_CHANNEL.broken()
        if not all(Decimal(value) for value in self.std):
            raise _STD_POSITIVE.broken()
        return self


class Columns(ApiModel):
    """Which column plays which role; roles that are left out are looked for under their own name, but for `group`."""

    text: Column | None = None
    """The input text."""
    label: Column | None = None
    """The label of a classification row."""
    image: Column | None = None
    """The image, as a list of numbers or as PNG or JPEG bytes."""
    features: Column | None = None
    """The window of a time series, as a list of `length` lists of `channels` numbers, or all of them in one list. Columns of a
    table are named in `source.features`."""
    query: Column | None = None
    """The query of a retrieval pair."""
    document: Column | None = None
    """The document that answers the query."""
    name: Column | None = None
    """A name to show for the row, for example in search results."""
    group: Column | None = None
    """What joins rows that say the same, such as a summary and its text: equal values; null stands alone. This role counts
    only where it is named."""


class TrainingColumns(Columns):
    """The same, of rows that are learned from."""

    weight: Column | None = None
    """How often a row is drawn against the others: numbers, 0 or more; a row of 0 is never learned from. This role counts only
    where it is named. Not with loss `contrastive`, for which a row and its copy would be one group."""


class DataSource(ApiModel):
    """Rows for training, calibration, the gate or the index: a `.parquet`, `.jsonl` or `.csv` file, or a folder of one kind."""

    uri: Uri
    """`file://`, `package://`, or a named source such as `data:docstrings`."""
    columns: Columns = Columns()
    """Names of the columns; those called `text`, `label`, `image`, `query`, `document` or `name` are found without, and for time
    series `features`."""
    max_rows: Annotated[int | None, Field(ge=1, le=100_000_000)] = None
    """Take only the first rows."""


class TrainingData(DataSource):
    """Rows that are learned from."""

    columns: TrainingColumns = TrainingColumns()
    """Names of the columns; those called `text`, `label`, `image`, `query`, `document` or `name` are found without."""


class FineTune(ApiModel):
    """Makes a classifier of an encoder before anything else: a head on its pooled states, both trained on labelled rows.

    What comes of it is the teacher: what is distilled, what the gate compares with, what a cascade's larger model is.
    """

    data: TrainingData
    """Rows with labels; rows without are left out."""
    validation: DataSource | None = None
    """Rows with labels that show how training goes; never the gate's own."""
    epochs: Annotated[int, Field(ge=1, le=1000)] = 3
    """Passes over the data."""
    batch_size: Annotated[int, Field(ge=1, le=65536)] = 32
    """Rows per step."""
    learning_rate: DecimalString = "0.00005"
    """Peak of the encoder's learning rate."""
    head_learning_rate: DecimalString = "0.001"
    """Peak of the head's learning rate: it begins at random, the encoder does not."""
    warmup: Percent = "10%"
    """Share of the steps in which the rates climb; afterwards they fall as a cosine."""
    weight_decay: DecimalString = "0.01"
    """Decoupled weight decay (AdamW)."""
    label_smoothing: DecimalString | None = None
    """Share of the label's 1 that cross-entropy spreads evenly over all labels."""
    balanced: bool = False
    """Let all labels count alike, however rare they are."""
    freeze: Freeze | None = None
    """What of the encoder is held still."""
    early_stopping: EarlyStopping | None = None
    """End when validation gains no more; the result is then the best epoch instead of the last."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 7
    """Seed of every random choice, kept in the receipt."""

    cel_rules = (_RATES_POSITIVE, _SMOOTHED_SHARE, _STOPPING_NEEDS_ROWS)

    @model_validator(mode="after")
    def _learns(self) -> FineTune:
        if not Decimal(self.learning_rate) or not Decimal(self.head_learning_rate):
            raise _RATES_POSITIVE.broken()
        if self.label_smoothing is not None and Decimal(self.label_smoothing) >= 1:
            raise _SMOOTHED_SHARE.broken()
        if self.early_stopping is not None and self.validation is None:
            raise _STOPPING_NEEDS_ROWS.broken(fix="write validation with its data")
        return self


class ModelSource(ApiModel):
    """The model to start from: the teacher, or the model to compress as it is."""

    uri: Uri
    """`file://`, `package://`, `hf://owner/model[@revision]`, or a named source such as `models:minilm`."""
    task: Task
    """What the model does."""
    max_length: Annotated[int | None, Field(ge=8, le=8192)] = None
    """Longest input in tokens, special ones included; longer texts are cut. The model's own limit when left out."""
    labels: Annotated[
        tuple[Label, ...],
        Field(max_length=4096, json_schema_extra={"x-kubernetes-list-type": "set"}),
        AfterValidator(once("label")),
    ] = ()
    """Labels in the order of the model's outputs; `id2label` of its configuration when left out."""
    image: Image | None = None
    """Shape of the input of an image model. Images of data must have it: nothing resizes them. `still infer` alone takes PNG
    and JPEG files of any size and resizes them (bilinear; the aspect ratio is not kept)."""
    features: Features | None = None
    """Form of the input of a model of tables or time series. Data must have it, and numbers in every place: a row with a missing
    value is refused."""
    factory: Factory | None = None
    """Builds the network that the weights at `uri` belong to, for models that Hugging Face does not know."""
    fine_tune: FineTune | None = None
    """Makes a text classifier of the encoder at `uri`; left out, the model is taken as it is. `labels` are then the order that
    its outputs get; sorted when left out."""

    cel_rules = (_IMAGE_BELONGS, _IMAGE_NEEDED, *FEATURE_RULES, _TUNED_TEXT)

    @model_validator(mode="after")
    def _image_fits(self) -> ModelSource:
        if self.task != "image-classification" and self.image is not None:
            raise _IMAGE_BELONGS.broken()
        if self.task == "image-classification" and self.image is None:
            raise _IMAGE_NEEDED.broken()
        features_fit(self.task, self.features)
        if self.fine_tune is not None and (self.task != "text-classification" or self.factory is not None):
            raise _TUNED_TEXT.broken(fix="leave fineTune out")
        return self


class Credential(ApiModel):
    """A Secret that is used to fetch sources in a cluster. On one machine the usual variables of each service count instead."""

    secret: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
    """Secret of the model's namespace. It must carry the label `stillhouse.io/credentials: "true"`, so that who may write a
    DistilledModel cannot use every Secret there is. Its keys: docs/sources.md."""
    for_: Annotated[
        str,
        StringConstraints(pattern=r"^(s3|oci|hf|https)://[A-Za-z0-9][A-Za-z0-9._:-]*(/[A-Za-z0-9._~%+-]+)*/?$", max_length=512),
    ] = Field(alias="for")
    """Beginning of the URIs that it is for, in whole parts: `s3://BUCKET`, `oci://HOST/REPOSITORY`, `hf://OWNER`, `https://HOST/`.
    It is sent nowhere else; of several, the longest counts."""


def columns_of(data: DataSource) -> dict[str, str]:
    """Return the columns that were named: role → column."""
    given: dict[str, Any] = data.columns.model_dump(exclude_none=True)
    return {role: str(column) for role, column in given.items()}
