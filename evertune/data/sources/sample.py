"""The sample corpora as a source. Each week is a piece, so that one more week is one fresh piece."""

from collections.abc import Iterator
from datetime import datetime

from evertune.config import Recipe, SampleSource
from evertune.data.sources.chunk import Layout, Piece, RawRow, build_layout, match_columns
from evertune.data.sources.content import FileCache
from evertune.data.sources.tables import build_whole_table
from evertune.records import compute_digest
from evertune.samples import support_replies, support_tickets

CORPORA = {"support-tickets": support_tickets, "support-replies": support_replies}
MONDAY = datetime(2026, 1, 5)  # week 1 starts here


def fingerprints(source: SampleSource, recipe: Recipe, cache: FileCache) -> dict[str, str]:
    """Return the fingerprint of each week, without generating a ticket."""
    layout = build_layout(recipe)
    weeks = range(1, source.weeks + 1)
    return {_build_uri(source, week): _fingerprint_week(source, week, layout) for week in weeks}


def read(source: SampleSource, recipe: Recipe, seen: dict[str, str]) -> Iterator[Piece]:
    """Yield each week whose fingerprint is not in `seen`.

    Raises:
        DataError: the recipe maps a role to a column that the corpus does not have.
    """
    layout = build_layout(recipe)
    week_fingerprints = fingerprints(source, recipe, {})
    fresh_weeks = {uri: digest for uri, digest in week_fingerprints.items() if seen.get(uri) != digest}
    if not fresh_weeks:
        return
    tickets = CORPORA[source.sample].generate_rows(source.weeks, source.seed)
    columns = match_columns(layout, list(tickets[0]), f"sample:{source.sample}")
    rows_by_week: dict[str, list[RawRow]] = {uri: [] for uri in fresh_weeks}
    for ticket in tickets:
        created_at = datetime.fromisoformat(str(ticket["created_at"])).replace(tzinfo=None)
        uri = _build_uri(source, (created_at - MONDAY).days // 7 + 1)
        if uri in rows_by_week:
            rows_by_week[uri].append(RawRow([ticket[column] for column in columns]))
    for uri, fingerprint in fresh_weeks.items():
        yield Piece(uri, fingerprint, [build_whole_table(rows_by_week[uri], layout, uri, source.split)])


def _build_uri(source: SampleSource, week: int) -> str:
    return f"sample:{source.sample}/week-{week:02}?seed={source.seed}"


def _fingerprint_week(source: SampleSource, week: int, layout: Layout) -> str:
    return compute_digest(_build_uri(source, week), source.split, layout.columns, layout.kinds)
