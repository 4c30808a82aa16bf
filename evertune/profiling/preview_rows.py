"""A sample of a recipe's rows, evenly spaced over all sources, so that the time stays bounded."""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evertune.data.contract import judge
from evertune.data.contract.frame import list_labels
from evertune.data.row_versions import add_keys
from evertune.data.sources import read as sources
from evertune.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

    from evertune.config import Recipe

PIECES = 16  # of a source that are opened, such as files of a folder
FLOOR = 100  # least rows of each piece, however large the others are


@dataclass(frozen=True)
class Sample:
    """Sampled rows.

    Args:
        table: the rows in the form that the contract takes.
        found: rows in all pieces that were opened.
        labels: labels with enough rows in these pieces; empty where the table holds all rows, which show it themselves.
        notes: what was not opened.
    """

    table: "pa.Table"
    found: int
    labels: tuple[str, ...]
    notes: list[str]


def sample_rows(recipe: "Recipe", limit: int) -> Sample:
    """Read about `limit` rows of every source, in proportion to the size of its pieces.

    Raises:
        DataError: a source cannot be read, or there are no rows.
    """
    import pyarrow as pa

    passed, notes = _skip_pieces(recipe)
    sizes = []
    thinned = []
    counts = Counter[str]()
    uris = []
    for piece in sources.read_sources(recipe, passed):
        uris.append(piece.uri)
        sizes.append(len(piece.table))
        thinned.append(spread_rows(piece.table, limit))
        counts.update(list_labels(piece.table, recipe)[1].to_pylist())
    row_count = sum(sizes)
    if not row_count:
        raise DataError(
            f"the sources hold no rows ({', '.join(uris) or 'no files'}); add rows, or correct data.sources"
        )
    shares = [max(FLOOR, limit * size // row_count) for size in sizes]
    tables = (
        [spread_rows(table, share) for table, share in zip(thinned, shares, strict=True)]
        if row_count > limit
        else thinned
    )
    table = add_keys(pa.concat_tables(tables, promote_options="permissive"), recipe)
    frequent = [label for label, count in counts.items() if count >= recipe.contract.label.min_rows]
    return Sample(table, row_count, tuple(sorted(frequent)) if len(table) < row_count else (), notes)


def judge_sample(rows: Sample, recipe: "Recipe") -> judge.Verdicts:
    """Put the rows through the contract, as the first batch of a new corpus.

    Raises:
        ConfigError: an expectation of the recipe cannot be checked.
    """
    import pyarrow as pa

    empty_corpus = pa.table({"input_digest": pa.array([], pa.int64()), "target_digest": pa.array([], pa.int64())})
    return judge.check_rows(rows.table, recipe, rows.labels, lambda _: empty_corpus)


def spread_rows(rows: "pa.Table", count: int) -> "pa.Table":
    """Return at most `count` rows of a table, evenly spaced, including the first and the last."""
    return rows if len(rows) <= count else rows.take(_spaced_positions(len(rows), count))


def _spaced_positions(size: int, count: int) -> list[int]:
    return [position * (size - 1) // max(1, count - 1) for position in range(count)]


def _skip_pieces(recipe: "Recipe") -> tuple[dict[str, str], list[str]]:
    """Choose pieces to skip, in the form of those that `read_sources` has read before, with a note on each source."""
    passed: dict[str, str] = {}
    notes = []
    for number, source in enumerate(recipe.data.sources):
        prints = sources.KINDS[type(source)].fingerprints(source, recipe, {}) or {}
        if len(prints) > PIECES:
            uris = list(prints)
            opened = {uris[position] for position in _spaced_positions(len(uris), PIECES)}
            passed |= {uri: fingerprint for uri, fingerprint in prints.items() if uri not in opened}
            notes.append(f"data.sources.{number}: {PIECES} of {len(uris)} pieces were opened, evenly spaced")
    return passed, notes
