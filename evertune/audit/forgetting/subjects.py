"""What of a row is looked for in pages: its texts and pictures, each alone and as the report shows them together."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from evertune.data.corpus.tombstones import to_plain_text
from evertune.data.text_matching import START, fold_text
from evertune.data.thumbnails import digest_picture
from evertune.objectives import Objective

if TYPE_CHECKING:
    import pyarrow as pa

TEXTS = ("string", "strings")


def extract_texts(rows: "pa.Table", objective: Objective) -> Iterator[str]:
    """Each text of each row, and the inputs of each as one text, as pages show several.

    Labels are no texts. A target of a few letters is none either: by itself it tells of nobody, and would be found
    in rows of others; its row is found by the input.
    """
    roles = _select_roles(rows, objective, *TEXTS)
    for role in roles:
        for text in filter(None, map(_plain_text, rows[role].to_pylist())):
            if role in objective.INPUTS or len(fold_text(text)) >= START:
                yield text
    if len(input_roles := [role for role in roles if role in objective.INPUTS]) > 1:
        yield from (" ".join(map(_plain_text, row.values())) for row in rows.select(input_roles).to_pylist())


def digest_pictures(rows: "pa.Table", objective: Objective) -> Iterator[str]:
    """The digest of each picture of each row."""
    for role in _select_roles(rows, objective, "image"):
        yield from (digest_picture(picture) for picture in rows[role].to_pylist() if picture)


def is_shown_in_pieces(objective: Objective) -> bool:
    """Whether pages show a text in pieces: a prompt, and how it went on."""
    return objective.TARGET in objective.INPUTS


def _select_roles(rows: "pa.Table", objective: Objective, *kinds: str) -> list[str]:
    labels = {objective.TARGET} if objective.LABELED else set()
    return [
        role
        for role, kind in objective.COLUMNS.items()
        if kind in kinds and role not in labels and role in rows.column_names
    ]


def _plain_text(value: Any) -> str:
    return to_plain_text(value) if value else ""
