"""Rows of a batch whose labels are doubtful: the list for a person, and what the contract does with them."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from evertune.data.contract import judge
from evertune.data.contract.frame import get_target_role
from evertune.data.corpus.parquet_chunks import ChunkFile, rows_of
from evertune.runtime.files import read_json, write_json

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from evertune.config import Recipe
    from evertune.runtime.context import RunContext
    from evertune.runtime.home import Home

KIND = "doubtful label"


class Doubt(NamedTuple):
    """A row whose label is doubtful.

    Args:
        row_version: of the row.
        label: that it has.
        suggestion: label that two models give it.
    """

    row_version: str
    label: str
    suggestion: str


@dataclass(frozen=True)
class LabelReview:
    """The labels of a batch, compared with what two models make of its texts.

    Args:
        batch: number of the batch.
        rows: number of its rows whose labels were compared.
        share: share of doubtful labels among them.
        usual: share that is usual for rows with these labels.
        p: p-value of no more labels than usual of which a model is confident that they are wrong.
        is_unusual: whether far more labels are doubtful than usual.
        doubts: the doubtful rows.
    """

    batch: int
    rows: int
    share: float
    usual: float
    p: float
    is_unusual: bool
    doubts: tuple[Doubt, ...]

    def describe(self, recipe: "Recipe") -> str:
        """Write what is unusual, and what to do: "intent: 38 of 180 labels (21%) are doubtful, usually 3%: ..."."""
        column = recipe.column(get_target_role(recipe))
        return (
            f"{column}: {len(self.doubts):,} of {self.rows:,} labels ({self.share:.0%}) are doubtful, usually "
            f"{self.usual:.0%}: the champion and a model that never saw these rows both give them another label"
        )


def save_review(home: "Home", review: LabelReview) -> None:
    """Keep the list of doubtful rows: their versions and labels, and no text of theirs."""
    write_json(_review_path(home, review.batch), {**vars(review), "doubts": [list(doubt) for doubt in review.doubts]})


def load_reviews(home: "Home") -> list[LabelReview]:
    """Return the reviews of all batches with unusually many doubtful labels, the newest first."""
    reviews = []
    for path in sorted(home.reviews.glob("[0-9]*.json"), reverse=True):
        content = read_json(path)
        if content is not None:
            doubts = tuple(Doubt(*doubt) for doubt in content.pop("doubts"))
            reviews.append(LabelReview(**content, doubts=doubts))
    return reviews


def apply_review(
    review: LabelReview, verdicts: judge.Verdicts, accepted_file: ChunkFile, context: "RunContext"
) -> tuple[judge.Verdicts, ChunkFile, str]:
    """Do with unusually many doubtful labels what the contract says.

    Returns:
        The verdicts and the file of accepted rows, changed where doubtful rows go to quarantine, and what to tell.
    Raises:
        BatchStoppedError: `contract.label.noise` is `stop`.
    """
    policy = context.recipe.contract.label.noise
    problem = review.describe(context.recipe)
    if policy == "report":
        return verdicts, accepted_file, f"{problem}. They were accepted; `evertune review RECIPE` lists them"
    changed, accepted = _refuse_doubtful_rows(review, verdicts, accepted_file, context)
    if policy == "stop":
        accepted.drop_file()
        message = (
            f"{problem}; contract.label.noise: stop keeps the batch out, nothing was ingested. `evertune quarantine "
            "RECIPE` lists the rows. Correct them in the source and run again, or set contract.label.noise: quarantine"
        )
        raise judge.BatchStoppedError(message, changed, problem)
    advice = "They went to quarantine; `evertune quarantine RECIPE` lists them and has the way back"
    return changed, accepted, f"{problem}. {advice}"


def _refuse_doubtful_rows(
    review: LabelReview, verdicts: judge.Verdicts, accepted_file: ChunkFile, context: "RunContext"
) -> tuple[judge.Verdicts, ChunkFile]:
    """Return the verdicts with the doubtful rows among the refused, and a file of the other accepted rows."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    suggestions = {doubt.row_version: doubt for doubt in review.doubts}
    versions = pa.array(list(suggestions), pa.string())
    remaining_file = ChunkFile(context.home.batches)
    moved = []
    for chunk in rows_of(accepted_file.path)(pq.read_schema(accepted_file.path).names):
        is_doubtful = pc.is_in(chunk["row_version"], value_set=versions)
        moved.append(chunk.filter(is_doubtful))
        remaining_file.add_rows(chunk.filter(pc.invert(is_doubtful)))
    remaining_file.close()
    accepted_file.drop_file()
    refused = _attach_doubts(pa.concat_tables(moved), verdicts.refused, suggestions)
    labels = dict(verdicts.labels)
    for doubt in review.doubts:
        labels[doubt.label] = labels.get(doubt.label, 0) - 1
    changed = replace(
        verdicts,
        refused=pa.concat_tables([verdicts.refused, refused]),
        reasons={**verdicts.reasons, KIND: len(refused)},
        rows=verdicts.rows - len(refused),
        labels={label: count for label, count in labels.items() if count > 0},
    )
    return changed, remaining_file


def _attach_doubts(rows: "pa.Table", refused: "pa.Table", suggestions: dict[str, Doubt]) -> "pa.Table":
    """Return doubtful rows with the columns of refused ones."""
    import pyarrow as pa

    doubts = [suggestions[version] for version in rows["row_version"].to_pylist()]
    reasons = [[f"the label {doubt.label!r} is doubtful: two models say {doubt.suggestion!r}"] for doubt in doubts]
    columns = {
        "reasons": pa.array(reasons, pa.list_(pa.string())),
        "kinds": pa.array([[KIND]] * len(doubts), pa.list_(pa.string())),
    }
    return pa.table({name: columns[name] if name in columns else rows[name] for name in refused.column_names}).cast(
        refused.schema
    )


def _review_path(home: "Home", batch: int) -> "Path":
    return home.reviews / f"{batch:06d}.json"
