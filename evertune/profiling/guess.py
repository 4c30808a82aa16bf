"""What is inferred from rows before a recipe exists."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Guess:
    """What a recipe needs to know about rows.

    Args:
        objective: its name.
        columns: role -> column.
        why: role -> reason for the column.
        labels: label or tag -> rows (words) with it, most frequent first.
        lengths: `min`, `median`, `p95`, `max`, `mean` of the input, in characters; for token lists in words.
        rows: number of rows read.
        encoding: of the files.
        notes: what else a person should know.
        format: of the first file.
        characters: `keep` to accept rows with damaged text.
        refused: reason -> rows that the contract refuses; see `try_contract`.
        refused_share: their share.
        problems: what would stop a run.
    """

    objective: str
    columns: dict[str, str]
    why: dict[str, str]
    labels: dict[str, int]
    lengths: dict[str, float]
    rows: int
    encoding: str = "utf-8"
    notes: tuple[str, ...] = ()
    characters: str = "refuse"
    format: str = "csv"
    refused: dict[str, int] = field(default_factory=dict)
    refused_share: float = 0.0
    problems: tuple[str, ...] = ()
