"""The sample corpora as a source. Each week is a piece, so that one week more is one fresh piece."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from evertune.config import Recipe, SampleSource
from evertune.data.sources.chunk import Layout, Piece, Raw, layout, match
from evertune.data.sources.tables import whole
from evertune.records import digest
from evertune.samples import support_replies, support_tickets

CORPORA = {"support-tickets": support_tickets, "support-replies": support_replies}
MONDAY = datetime(2026, 1, 5)  # week 1 starts here


def fingerprints(source: SampleSource, recipe: Recipe, cache: dict[str, Any]) -> dict[str, str]:
    """The fingerprint of each week, known without writing a ticket."""
    wanted = layout(recipe)
    return {_uri(source, week): _fingerprint(source, week, wanted) for week in range(1, source.weeks + 1)}


def read(source: SampleSource, recipe: Recipe, seen: dict[str, str]) -> Iterator[Piece]:
    """Each week whose fingerprint is not in `seen`.

    Raises:
        DataError: the recipe maps a role to a column that the corpus does not have.
    """
    wanted = layout(recipe)
    fresh = [(uri, print_) for uri, print_ in fingerprints(source, recipe, {}).items() if seen.get(uri) != print_]
    if not fresh:
        return
    tickets = CORPORA[source.sample].rows(source.weeks, source.seed)
    columns = match(wanted, list(tickets[0]), f"sample:{source.sample}")
    weeks: dict[str, list[Raw]] = {uri: [] for uri, _ in fresh}
    for ticket in tickets:
        week = (datetime.fromisoformat(str(ticket["created_at"])).replace(tzinfo=None) - MONDAY).days // 7 + 1
        if (uri := _uri(source, week)) in weeks:
            weeks[uri].append(Raw([ticket[column] for column in columns]))
    for uri, fingerprint in fresh:
        yield Piece(uri, fingerprint, [whole(weeks[uri], wanted, uri, source.split)])


def _uri(source: SampleSource, week: int) -> str:
    return f"sample:{source.sample}/week-{week:02}?seed={source.seed}"


def _fingerprint(source: SampleSource, week: int, wanted: Layout) -> str:
    return digest(_uri(source, week), source.split, wanted.columns, wanted.kinds)
