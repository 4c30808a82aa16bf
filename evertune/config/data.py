"""The recipe's `data` and `contract`: where rows come from, what they must be, how they are split."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, field_validator, model_validator

from evertune.config.base import Section, Url
from evertune.config.expectations import check_expectation

SplitName = Literal["train", "validation", "test"]


class PathSource(Section):
    """Files: one, a folder, or a glob."""

    path: str = Field(
        description="File, folder or glob, relative to the recipe's folder. `${NAME:-default}` is allowed."
    )
    format: Literal["auto", "csv", "tsv", "jsonl", "parquet", "conll", "text"] = Field(
        "auto",
        description="`auto` goes by the file's ending (`.txt` and `.conll` are CoNLL columns). `text`: plain text, "
        "whose paragraphs, apart by blank lines, are the rows.",
    )
    encoding: str = Field("utf-8", description="Text encoding of CSV, TSV, JSON Lines and CoNLL files.")
    delimiter: str = Field(
        "auto",
        description="The character between the cells of a CSV file. `auto`: a comma, or where the header has none, "
        "the first of semicolon, tab and `|` that it has.",
    )
    block: int = Field(
        0, ge=0, description="Plain text: paragraphs are put together until a row has so many characters; 0: one a row."
    )
    fields: list[str] | None = Field(
        None, description="Names of a CoNLL file's columns. Default: first is `tokens`, last is `tags`."
    )
    split: SplitName | None = Field(None, description="All rows of this source belong to this split.")

    @field_validator("delimiter")
    @classmethod
    def _is_one_character(cls, delimiter: str) -> str:
        if delimiter != "auto" and (len(delimiter) != 1 or delimiter in '"\r\n'):
            raise ValueError("give one character, such as ';', or auto")
        return delimiter


class SampleSource(Section):
    """A corpus that Evertune carries, for a first look."""

    sample: Literal["support-tickets", "support-replies"] = Field(
        description="Name of the corpus. `support-replies`: sound tickets, each with its reply and its summary."
    )
    weeks: int = Field(8, ge=1, le=12, description="Tickets of this many weeks, from the first.")
    seed: int = Field(0, ge=0, description="Another seed, another corpus.")
    split: SplitName | None = Field(None, description="All rows of this source belong to this split.")


class HubSource(Section):
    """A Hugging Face data set, through `datasets`."""

    hub: Url = Field(description="Hub id, or a local folder that `datasets` can load.")
    subset: str | None = Field(None, description="The data set's configuration name.")
    part: str = Field("train", description="The data set's own split to read, such as `train` or `train[:10%]`.")
    revision: str | None = Field(None, description="Commit or tag on the hub.")
    split: SplitName | None = Field(None, description="All rows of this source belong to this split.")


class SqlSource(Section):
    """Rows of a query, through SQLAlchemy."""

    sql: str = Field(description="SELECT statement. With `cursor`, `:cursor` in it stands for the largest value seen.")
    url: Url = Field(description="SQLAlchemy URL; passwords only as `${NAME}`.")
    cursor: str | None = Field(
        None, description="Column that only grows. Without it the query is scanned whole at every run."
    )
    split: SplitName | None = Field(None, description="All rows of this source belong to this split.")


class DeltaSource(Section):
    """A Delta table."""

    delta: Url = Field(description="Folder or URI of the table.")
    version: int | None = Field(None, ge=0, description="Fixed version. Default: the newest.")
    split: SplitName | None = Field(None, description="All rows of this source belong to this split.")


SOURCE_MODELS: dict[str, type[Section]] = {
    "path": PathSource,
    "sample": SampleSource,
    "hub": HubSource,
    "sql": SqlSource,
    "delta": DeltaSource,
}


def _source_kind(value: Any) -> str | None:
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
    """How rows without a given split get theirs, once and for ever."""

    validation: float = Field(0.1, ge=0, lt=1, description="Share of rows for early stopping.")
    test: float = Field(0.1, ge=0, lt=1, description="Share of rows that only the gate sees.")
    near_duplicate: float | None = Field(
        0.8,
        gt=0,
        le=1,
        description="Rows at least this similar (Jaccard over word 3-shingles, by MinHash) stay together. null: off.",
    )
    leak: Literal["report", "exclude"] = Field(
        "report", description="Given split files: `exclude` leaves train rows out that stand in or near test."
    )


class Replay(Section):
    """Old rows that are learned again beside the new ones."""

    ratio: float = Field(1.0, gt=0, le=1000, description="Old rows for each new one.")
    by: Literal["uniform", "recency", "balance"] = Field(
        "uniform", description="How they are drawn. `recency`: newer ones sooner; `balance`: every label as often."
    )
    half_life: float = Field(4, gt=0, description="With `recency`: batches after which a row is drawn half as soon.")


class Fresh(Section):
    """What a retraining learns from."""

    train_on: Literal["all", "new", "replay"] = Field(
        "all", description="`new`: only rows that came since the champion; `replay`: these and a draw of older ones."
    )
    replay: Replay = Field(default_factory=Replay, description="With `train_on: replay`: the draw.")
    start_from: Literal["base", "champion"] = Field("base", description="Weights that a retraining starts from.")
    examples_per_label: int | None = Field(
        None, ge=1, description="Few-shot: learn from so many train rows of a label at most. Default: from all."
    )


class Data(Section):
    """Where rows come from."""

    sources: list[Source] = Field(min_length=1, description="Read in order.")
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Role -> column. Roles: the objective's own (see its section), and `id`, `timestamp`, `group`.",
    )
    split: SplitRules = Field(default_factory=SplitRules, description="How rows are split.")
    fresh: Fresh = Field(default_factory=Fresh, description="What a retraining learns from.")


class Bounds(Section):
    """A length in characters (text) or in words (tokens)."""

    min_length: int = Field(1, ge=0, description="Shortest length that is accepted.")
    max_length: int = Field(20_000, ge=1, description="Longest length that is accepted.")


class LabelRules(Section):
    """What a label, or a tag, may be."""

    values: Literal["inferred"] | list[str] = Field(
        "inferred", description="Allowed values. `inferred`: those of the first accepted batch, from then on fixed."
    )
    min_rows: int = Field(
        2, ge=1, description="While inferring, and with `new: grow`: a value with fewer rows is refused as a slip."
    )
    new: Literal["refuse", "stop", "grow"] = Field(
        "refuse",
        description="A value that the corpus does not know: its rows are refused; they stop the run; the labels grow.",
    )
    rename: dict[str, str] = Field(
        default_factory=dict,
        description="Old value -> the one that it is called now, in all rows, old and new; several for one are merged.",
    )

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if renamed_twice := [old for old, now in self.rename.items() if now in self.rename]:
            old = renamed_twice[0]
            now = self.rename[renamed_twice[0]]
            last = self.rename[now]
            advice = f"write {old}: {last}" if last not in self.rename else "a label has one name now; take a line out"
            raise ValueError(f"rename: {old} -> {now} -> {last}; {advice}")
        if self.values != "inferred":
            if missing := [now for now in self.rename.values() if now not in self.values]:
                raise ValueError(f"rename: values has no {missing[0]}; add it")
            if self.new == "grow":
                raise ValueError("new: grow needs `values: inferred`; with a list, add the new value to it")
        return self

    max_share: float = Field(
        0.98, gt=0, le=1, description="Label balance: a batch in which one label has a larger share stops the run."
    )


class Contract(Section):
    """What a row must be to enter the corpus: the source of a Great Expectations suite."""

    text: Bounds = Field(default_factory=Bounds, description="Bounds of a text, in characters.")
    tokens: Bounds = Field(default_factory=lambda: Bounds(max_length=2000), description="Bounds of a token list.")
    label: LabelRules = Field(default_factory=LabelRules, description="Rules for labels and tags.")
    conflicts: Literal["refuse", "keep"] = Field(
        "refuse", description="Rows without an id whose text is already there with another label."
    )
    characters: Literal["refuse", "keep"] = Field(
        "refuse",
        description="Rows with damaged encoding or control characters, and a batch of bare numbers; `keep` for data "
        "that must stay so.",
    )
    future: Literal["refuse", "keep"] = Field(
        "refuse", description="Rows whose timestamp lies more than a day after this machine's clock."
    )
    tolerance: float = Field(0.05, ge=0, le=1, description="A larger share of refused rows stops the run.")
    expectations: list[Annotated[dict[str, Any], AfterValidator(check_expectation)]] = Field(
        default_factory=list,
        description="Further expectations: `{type: expect_column_values_to_match_regex, column: text, regex: ...}`. "
        "One on rows refuses rows; one on the whole batch stops the run (`severity: warning` only reports).",
    )
