"""The recipe's `data` and `contract`: where rows come from, what they must satisfy, how they are split."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, field_validator, model_validator
from pydantic_core import PydanticCustomError

from evertune.config.base import Section, Url
from evertune.config.expectations import check_expectation

SplitName = Literal["train", "validation", "test"]


class PathSource(Section):
    """A file, a folder of files, or a glob."""

    path: str = Field(
        description="File, folder or glob, relative to the recipe's folder. `${NAME:-default}` is allowed."
    )
    format: Literal["auto", "csv", "tsv", "jsonl", "parquet", "conll", "text"] = Field(
        "auto",
        description="`auto`: by the file extension (`.txt` and `.conll` are read as CoNLL columns). `text`: plain "
        "text, one row for each paragraph; blank lines separate paragraphs.",
    )
    encoding: str = Field("utf-8", description="Text encoding of CSV, TSV, JSON Lines and CoNLL files.")
    delimiter: str = Field(
        "auto",
        description="Character between the cells of a CSV file. `auto`: a comma; if the header has none, the first of "
        "semicolon, tab and `|` that it has.",
    )
    block: int = Field(
        0, ge=0, description="Plain text: join paragraphs until a row has this many characters; 0: one paragraph a row."
    )
    fields: list[str] | None = Field(
        None, description="Names of a CoNLL file's columns. Default: the first is `tokens`, the last `tags`."
    )
    split: SplitName | None = Field(None, description="Put all rows of this source into this split.")

    @field_validator("delimiter")
    @classmethod
    def _is_one_character(cls, delimiter: str) -> str:
        if delimiter != "auto" and (len(delimiter) != 1 or delimiter in '"\r\n'):
            raise ValueError("must be one character, such as ';', or auto")
        return delimiter


class SampleSource(Section):
    """A corpus that comes with Evertune, for a first try."""

    sample: Literal["support-tickets", "support-replies"] = Field(
        description="Name of the corpus. `support-replies`: undamaged tickets, each with its reply and summary."
    )
    weeks: int = Field(8, ge=1, le=12, description="Number of weeks, from the first.")
    seed: int = Field(0, ge=0, description="Seed of the corpus: another seed gives other rows.")
    split: SplitName | None = Field(None, description="Put all rows of this source into this split.")


class HubSource(Section):
    """A Hugging Face dataset, through `datasets`."""

    hub: Url = Field(description="Hub id, or a local folder that `datasets` can load.")
    subset: str | None = Field(None, description="Name of the dataset's configuration.")
    part: str = Field("train", description="Split of the dataset to read, such as `train` or `train[:10%]`.")
    revision: str | None = Field(None, description="Commit or tag on the hub.")
    split: SplitName | None = Field(None, description="Put all rows of this source into this split.")


class SqlSource(Section):
    """Rows of a query, through SQLAlchemy."""

    sql: str = Field(
        description="SELECT statement. With `cursor`, `:cursor` in it is replaced by the largest value seen."
    )
    url: Url = Field(description="SQLAlchemy URL; passwords only as `${NAME}`.")
    cursor: str | None = Field(
        None, description="Column whose values only grow. Without it every run reads the whole query."
    )
    split: SplitName | None = Field(None, description="Put all rows of this source into this split.")


class DeltaSource(Section):
    """A Delta table."""

    delta: Url = Field(description="Folder or URI of the table.")
    version: int | None = Field(None, ge=0, description="Version to read. Default: the newest.")
    split: SplitName | None = Field(None, description="Put all rows of this source into this split.")


SOURCE_MODELS: dict[str, type[Section]] = {
    "path": PathSource,
    "sample": SampleSource,
    "hub": HubSource,
    "sql": SqlSource,
    "delta": DeltaSource,
}


def _source_kind(value: object) -> str | None:
    keys = value if isinstance(value, dict) else getattr(value, "model_fields_set", ())
    return next((kind for kind in SOURCE_MODELS if kind in keys), None)


Source = Annotated[
    Annotated[PathSource, Tag("path")]
    | Annotated[SampleSource, Tag("sample")]
    | Annotated[HubSource, Tag("hub")]
    | Annotated[SqlSource, Tag("sql")]
    | Annotated[DeltaSource, Tag("delta")],
    Discriminator(_source_kind),
]


class SplitRules(Section):
    """How rows without a split of their own are assigned one, once and permanently."""

    validation: float = Field(0.1, ge=0, lt=1, description="Share of the rows for early stopping.")
    test: float = Field(0.1, ge=0, lt=1, description="Share of the rows that only the gate uses.")
    near_duplicate: float | None = Field(
        0.8,
        gt=0,
        le=1,
        description="Rows at least this similar (Jaccard of word 3-shingles, by MinHash) share a split; null: off.",
    )
    leak: Literal["report", "exclude"] = Field(
        "report",
        description="With split files: `exclude` leaves out train rows that are in or near test.",
    )


class Replay(Section):
    """Old rows that are trained on again, together with the new ones."""

    ratio: float = Field(1.0, gt=0, le=1000, description="Number of old rows for each new one.")
    by: Literal["uniform", "recency", "balance"] = Field(
        "uniform",
        description="How old rows are drawn. `recency`: newer rows more often; `balance`: all labels equally often.",
    )
    half_life: float = Field(4, gt=0, description="With `recency`: batches after which a row is drawn half as often.")


class Fresh(Section):
    """What a retraining learns from."""

    train_on: Literal["all", "new", "replay"] = Field(
        "all",
        description="`new`: only rows that arrived since the champion; `replay`: these and a sample of older rows.",
    )
    replay: Replay = Field(default_factory=Replay, description="With `train_on: replay`: the sample of older rows.")
    start_from: Literal["base", "champion"] = Field("base", description="Weights to start a retraining from.")
    examples_per_label: int | None = Field(
        None, ge=1, description="Few-shot: use at most this many train rows per label. Default: all."
    )


class Data(Section):
    """Where rows come from."""

    sources: list[Source] = Field(min_length=1, description="Sources of rows, read in order.")
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Role -> column. Roles: those of the objective (see its section), and `id`, `timestamp`, `group`.",
    )
    split: SplitRules = Field(default_factory=SplitRules, description="How rows are split.")
    fresh: Fresh = Field(default_factory=Fresh, description="What a retraining learns from.")


class Bounds(Section):
    """Bounds of a length, in characters (text) or words (tokens)."""

    min_length: int = Field(1, ge=0, description="Minimum length.")
    max_length: int = Field(20_000, ge=1, description="Maximum length.")


def describe_quotes(wrong: Sequence[object]) -> dict[str, str]:
    """Return the first of these values, and how these labels are written as texts."""
    words = {True: ["'yes'", "'true'"], False: ["'no'", "'false'"], None: ["'null'"]}
    first = wrong[0]
    if isinstance(first, bool) or first is None:
        return {"value": f"{words[first][-1][1:-1]}", "example": " or ".join(words[first])}
    return {"value": str(first)[:40], "example": ", ".join(f"'{str(value)[:40]}'" for value in wrong[:3])}


class LabelRules(Section):
    """Which labels or tags are allowed."""

    values: Literal["inferred"] | list[str] = Field(
        "inferred", description="Allowed values. `inferred`: those in the first accepted batch, fixed from then on."
    )
    min_rows: int = Field(
        2,
        ge=1,
        description="For inferred values and `new: grow`: refuse a value with fewer rows, as a typing error.",
    )
    new: Literal["refuse", "stop", "grow"] = Field(
        "refuse",
        description="For a value that is not in the corpus: refuse its rows, stop the run, or add it (`grow`).",
    )
    rename: dict[str, str] = Field(
        default_factory=dict,
        description="Old value -> new value, in all rows, old and new. Several old values may share a new one.",
    )

    noise: Literal["report", "quarantine", "stop"] = Field(
        "report",
        description="Where far more labels of a batch are doubtful than usual: list the doubtful rows, refuse them, or "
        "stop the run. Only for texts with a single label.",
    )

    @field_validator("values", mode="before")
    @classmethod
    def _are_texts(cls, values: object) -> object:
        """Refuse values that YAML reads as a number, a date or a truth value: how they were spelt is lost."""
        wrong = [value for value in values if not isinstance(value, str)] if isinstance(values, list) else []
        if wrong:
            raise PydanticCustomError(
                "label_type",
                "{value} is not a text; put each label in quotes, such as {example}",
                describe_quotes(wrong),
            )
        return values

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if renamed_twice := [old for old, now in self.rename.items() if now in self.rename]:
            old = renamed_twice[0]
            now = self.rename[renamed_twice[0]]
            last = self.rename[now]
            advice = f"write {old}: {last}" if last not in self.rename else "a label has one new name; remove a line"
            raise ValueError(f"rename: {old} -> {now} -> {last}; {advice}")
        if self.values != "inferred":
            if missing := [now for now in self.rename.values() if now not in self.values]:
                raise ValueError(f"rename: {missing[0]} is not in values; add it")
            if self.new == "grow":
                raise ValueError("new: grow needs `values: inferred`; with a list of values, add the new value to it")
        return self

    max_share: float = Field(0.98, gt=0, le=1, description="Stop the run if one label has a larger share of a batch.")


class Contract(Section):
    """What a row must satisfy to enter the corpus; a Great Expectations suite is made from it."""

    text: Bounds = Field(default_factory=Bounds, description="Length of a text, in characters.")
    tokens: Bounds = Field(default_factory=lambda: Bounds(max_length=2000), description="Length of a token list.")
    label: LabelRules = Field(default_factory=LabelRules, description="Rules for labels and tags.")
    conflicts: Literal["refuse", "keep"] = Field(
        "refuse", description="Rows without an id whose text is in the corpus with another label."
    )
    characters: Literal["refuse", "keep"] = Field(
        "refuse",
        description="Rows with damaged encoding or control characters, and batches of bare numbers. `keep` accepts "
        "them.",
    )
    future: Literal["refuse", "keep"] = Field(
        "refuse", description="Rows whose timestamp is more than a day ahead of this machine's clock."
    )
    tolerance: float = Field(0.05, ge=0, le=1, description="Stop the run if a larger share of the rows is refused.")
    expectations: list[Annotated[dict[str, Any], AfterValidator(check_expectation)]] = Field(
        default_factory=list,
        description="Further expectations, such as `{type: expect_column_values_to_match_regex, column: text, regex: "
        "...}`. An expectation on rows refuses rows; one on the batch stops the run (`severity: warning` only "
        "reports).",
    )
