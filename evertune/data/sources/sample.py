"""The sample corpora as a source. Each week is a piece, so that one week more is one fresh piece."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from evertune.config import Recipe, SampleSource
from evertune.data.sources.chunk import Layout, Piece, RawRow, build_layout, match_columns
from evertune.data.sources.tables import build_whole_table
from evertune.records import compute_digest
from evertune.samples import support_replies, support_tickets

CORPORA = {"support-tickets": support_tickets, "support-replies": support_replies}
MONDAY = datetime(2026, 1, 5)  # week 1 starts here


def fingerprints(source: SampleSource, recipe: Recipe, cache: dict[str, Any]) -> dict[str, str]:
    """The fingerprint of each week, known without writing a ticket."""
    role_layout = build_layout(recipe)
    return {
        _build_uri(source, week): _fingerprint_week(source, week, role_layout) for week in range(1, source.weeks + 1)
    }


def read(source: SampleSource, recipe: Recipe, seen: dict[str, str]) -> Iterator[Piece]:
    """Each week whose fingerprint is not in `seen`.

    Raises:
        DataError: the recipe maps a role to a column that the corpus does not have.
    """
    role_layout = build_layout(recipe)
    fresh_weeks = [
        (uri, week_fingerprint)
        for uri, week_fingerprint in fingerprints(source, recipe, {}).items()
        if seen.get(uri) != week_fingerprint
    ]
    if not fresh_weeks:
        return
    tickets = CORPORA[source.sample].rows(source.weeks, source.seed)
    columns = match_columns(role_layout, list(tickets[0]), f"sample:{source.sample}")
    weeks: dict[str, list[RawRow]] = {uri: [] for uri, _ in fresh_weeks}
    for ticket in tickets:
        week = (datetime.fromisoformat(str(ticket["created_at"])).replace(tzinfo=None) - MONDAY).days // 7 + 1
        if (uri := _build_uri(source, week)) in weeks:
            weeks[uri].append(RawRow([ticket[column] for column in columns]))
    for uri, fingerprint in fresh_weeks:
        yield Piece(uri, fingerprint, [build_whole_table(weeks[uri], role_layout, uri, source.split)])


def _build_uri(source: SampleSource, week: int) -> str:
    return f"sample:{source.sample}/week-{week:02}?seed={source.seed}"


def _fingerprint_week(source: SampleSource, week: int, role_layout: Layout) -> str:
    return compute_digest(_build_uri(source, week), source.split, role_layout.columns, role_layout.kinds)
