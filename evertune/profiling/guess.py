"""What a first look at rows guesses about them."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Guess:
    """What a recipe needs to know about rows.

    Args:
        columns: role -> column; why: role -> a sentence.
        labels: label or tag -> how many rows (words) have it, most frequent first.
        lengths: `min`, `median`, `p95`, `max`, `mean` of the input, in characters; of token lists in words.
        rows: rows that were looked at.
        encoding: of the files.
        notes: what a person should know beside that.
        format: of the first file.
        characters: `keep` where rows with damaged text are to be accepted.
        refused: reason -> rows that the contract refuses, refused_share: their share, problems: what stops a run all
            the same; see `tried`.
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
