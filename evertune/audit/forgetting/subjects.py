"""The parts of a row that pages are searched for: its texts and images, alone and as the report joins them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from evertune.data.corpus.tombstones import to_plain_text
from evertune.data.text_matching import START, fold_text
from evertune.data.thumbnails import digest_picture
from evertune.objectives import Cell, Objective

if TYPE_CHECKING:
    import pyarrow as pa

TEXTS = ("string", "strings")


def extract_texts(rows: "pa.Table", objective: Objective) -> Iterator[str]:
    """Yield each text of each row, and the inputs of each row as one text, as pages join them.

    Labels do not count as texts. Nor do targets of a few letters: alone they identify nobody, and other rows would
    match; such a row is found by its input.
    """
    roles = _select_roles(rows, objective, *TEXTS)
    for role in roles:
        for text in filter(None, map(_plain_text, rows[role].to_pylist())):
            if role in objective.INPUTS or len(fold_text(text)) >= START:
                yield text
    input_roles = [role for role in roles if role in objective.INPUTS]
    if len(input_roles) > 1:
        yield from (" ".join(map(_plain_text, row.values())) for row in rows.select(input_roles).to_pylist())


def digest_pictures(rows: "pa.Table", objective: Objective) -> Iterator[str]:
    """Yield the digest of each image of each row."""
    for role in _select_roles(rows, objective, "image"):
        yield from (digest_picture(picture) for picture in rows[role].to_pylist() if picture)


def is_shown_in_pieces(objective: Objective) -> bool:
    """Return whether pages show a text in pieces: a prompt and its continuation."""
    return objective.TARGET in objective.INPUTS


def _select_roles(rows: "pa.Table", objective: Objective, *kinds: str) -> list[str]:
    labels = {objective.TARGET} if objective.LABELED else set()
    return [
        role
        for role, kind in objective.COLUMNS.items()
        if kind in kinds and role not in labels and role in rows.column_names
    ]


def _plain_text(value: Cell | None) -> str:
    return to_plain_text(value) if value else ""
