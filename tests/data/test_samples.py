"""The sample corpus is the same everywhere, with few damaged rows, a drift and a week of wrong labels."""

import hashlib
import json
import re
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from evertune.samples import support_replies
from evertune.samples.support_ticket_damage import KINDS
from evertune.samples.support_tickets import INTENTS, WEEKS, Ticket, generate_rows, list_damage, write_tickets

DIGEST = "6e251f1e322b1543c3ef1e944bb6e12a580e166b7eb534473ee707f130d95083"  # of generate_rows(WEEKS)
MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
WALLET = re.compile(r"\b(wallet|cashback|points|balance|app)\b", re.IGNORECASE)


@pytest.fixture(scope="module")
def corpus() -> list[Ticket]:
    return write_tickets(WEEKS)


@pytest.fixture(scope="module")
def tickets_by_week(corpus: list[Ticket]) -> dict[int, list[Ticket]]:
    weeks: dict[int, list[Ticket]] = defaultdict(list)
    for ticket in corpus:
        weeks[(ticket.written - MONDAY).days // 7 + 1].append(ticket)
    return weeks


def test_rows_are_the_same_for_the_same_seed_only() -> None:
    assert generate_rows(2, seed=5) == generate_rows(2, seed=5)
    assert generate_rows(2, seed=5) != generate_rows(2, seed=6)


def test_corpus_is_the_same_on_every_python_and_platform(corpus: list[Ticket]) -> None:
    text = json.dumps([ticket.to_row() for ticket in corpus])
    assert hashlib.sha256(text.encode()).hexdigest() == DIGEST, "new phrases? update DIGEST and the reported scores"


@pytest.mark.parametrize("weeks", [0, 1, 4, 8, 11])
def test_fewer_weeks_are_a_prefix(weeks: int, corpus: list[Ticket]) -> None:
    fewer = write_tickets(weeks)
    assert fewer == corpus[: len(fewer)]
    assert generate_rows(weeks) == [ticket.to_row() for ticket in fewer]


@pytest.mark.parametrize("weeks", [-1, WEEKS + 1])
def test_weeks_out_of_range_are_refused(weeks: int) -> None:
    with pytest.raises(ValueError, match="must be from 0 to 12"):
        generate_rows(weeks)


def test_rows_have_five_columns_in_order() -> None:
    assert list(generate_rows(1)[0]) == ["ticket_id", "message", "intent", "created_at", "customer"]


def test_weeks_have_their_size(tickets_by_week: dict[int, list[Ticket]]) -> None:
    assert sorted(tickets_by_week) == list(range(1, WEEKS + 1))
    for week, tickets in tickets_by_week.items():
        assert abs(len(tickets) - (450 if week == 9 else 300)) < 20
    assert len({len(tickets) for tickets in tickets_by_week.values()}) > 3


def test_intents_are_unevenly_frequent(tickets_by_week: dict[int, list[Ticket]]) -> None:
    counts = Counter(ticket.true_intent for week in range(1, 9) for ticket in tickets_by_week[week])
    shares = {intent: count / counts.total() for intent, count in counts.items()}
    assert set(shares) == set(INTENTS)
    assert 0.018 < min(shares.values()) < 0.032
    assert 0.11 < max(shares.values()) < 0.15


def test_timestamps_never_go_back(corpus: list[Ticket]) -> None:
    stamps = [datetime.fromisoformat(str(ticket.to_row()["created_at"])) for ticket in corpus]
    assert all(before <= after for before, after in pairwise(stamps))
    assert stamps[0] >= MONDAY and stamps[-1] < MONDAY + timedelta(weeks=WEEKS)


def test_ids_are_unique_and_grow_except_the_planted(corpus: list[Ticket]) -> None:
    ids = [ticket.ticket_id for ticket in corpus if ticket.damage != "duplicate_id"]
    assert all(before < after for before, after in pairwise(ids))
    assert all(re.fullmatch(r"T-\d{6}", ticket_id) for ticket_id in ids)


def test_planted_ids_repeat_one_of_the_same_week(tickets_by_week: dict[int, list[Ticket]]) -> None:
    for tickets in tickets_by_week.values():
        for ticket in (ticket for ticket in tickets if ticket.damage == "duplicate_id"):
            namesakes = [other for other in tickets if other.ticket_id == ticket.ticket_id]
            assert len(namesakes) == 2
            assert namesakes[0].message != namesakes[1].message


def test_every_kind_of_damage_comes_in_the_first_four_weeks() -> None:
    assert set(list_damage(4).values()) == set(KINDS)


def test_damaged_rows_are_few_in_every_week(tickets_by_week: dict[int, list[Ticket]], corpus: list[Ticket]) -> None:
    for tickets in tickets_by_week.values():
        assert 0 < sum(ticket.damage is not None for ticket in tickets) / len(tickets) <= 0.025
    assert 0.01 < sum(ticket.damage is not None for ticket in corpus) / len(corpus) < 0.02


IS_DAMAGED = {
    "empty_message": lambda row: row["message"] is not None and not row["message"].strip(),
    "missing_message": lambda row: row["message"] is None,
    "missing_label": lambda row: row["intent"] is None,
    "unknown_label": lambda row: row["intent"] is not None and row["intent"] not in INTENTS,
    "mojibake": lambda row: re.search("\ufffd|Â|â€|Ã", row["message"] or "") is not None,
    "control_characters": lambda row: re.search("[\x00-\x08\x1b]", row["message"] or "") is not None,
    "too_long": lambda row: len(row["message"] or "") > 4000,
}


@pytest.mark.parametrize("kind", IS_DAMAGED)
def test_damage_is_where_the_tickets_say_and_nowhere_else(kind: str, corpus: list[Ticket]) -> None:
    damaged = {index for index, ticket in enumerate(corpus) if IS_DAMAGED[kind](ticket.to_row())}
    assert damaged == {index for index, ticket in enumerate(corpus) if ticket.damage == kind}


def test_damage_is_listed_by_row_index(corpus: list[Ticket]) -> None:
    early = write_tickets(2)
    damage = {index: ticket.damage for index, ticket in enumerate(corpus[: len(early)]) if ticket.damage}
    assert list_damage(2) == damage


def test_some_damage_is_replacement_characters(corpus: list[Ticket]) -> None:
    assert any("\ufffd" in (ticket.message or "") for ticket in corpus)


def test_sound_messages_have_no_unfilled_slot(corpus: list[Ticket]) -> None:
    messages = [str(ticket.message) for ticket in corpus if ticket.damage is None]
    assert not [message for message in messages if re.search(r"[][{}|^]", message)]


def test_there_are_a_few_near_duplicates(corpus: list[Ticket]) -> None:
    shingles = [_make_shingles(ticket.message or "") for ticket in corpus if ticket.damage != "too_long"]
    assert 0.005 < len(_find_near_duplicates(shingles)) / len(shingles) < 0.05


def test_some_customers_write_often(corpus: list[Ticket]) -> None:
    ticket_counts = Counter(ticket.customer for ticket in corpus)
    assert 0.2 < sum(count > 1 for count in ticket_counts.values()) / len(ticket_counts) < 0.8


def test_short_and_long_messages_are_both_common(corpus: list[Ticket]) -> None:
    word_counts = [len((ticket.message or "").split()) for ticket in corpus if not ticket.damage]
    assert sum(count <= 5 for count in word_counts) / len(word_counts) > 0.05
    assert sum(count >= 35 for count in word_counts) / len(word_counts) > 0.15


def test_wallet_words_come_only_with_the_app(tickets_by_week: dict[int, list[Ticket]]) -> None:
    for week in range(1, 9):
        assert not [ticket.message for ticket in tickets_by_week[week] if WALLET.search(ticket.message or "")]
    late_tickets = [ticket for week in range(9, WEEKS + 1) for ticket in tickets_by_week[week]]
    drifted = [ticket for ticket in late_tickets if ticket.has_drifted and ticket.message]
    assert {ticket.true_intent for ticket in drifted} == {"refund_request"}
    count = sum(WALLET.search(ticket.message or "") is not None for ticket in drifted)
    assert count / len(drifted) > 0.75  # the rest have typos, are short or use other words


@pytest.mark.parametrize(("week", "share"), [(9, 0.30), (10, 0.20), (11, 0.20), (12, 0.20)])
def test_the_drifted_intent_takes_its_share(week: int, share: float, tickets_by_week: dict[int, list[Ticket]]) -> None:
    refunds = [ticket for ticket in tickets_by_week[week] if ticket.true_intent == "refund_request"]
    assert abs(len(refunds) / len(tickets_by_week[week]) - share) < 0.05
    assert sum(ticket.has_drifted for ticket in refunds) / len(refunds) > 0.8


@pytest.mark.parametrize("week", range(1, WEEKS + 1))
def test_labels_are_wrong_in_the_week_of_noise(week: int, tickets_by_week: dict[int, list[Ticket]]) -> None:
    sound = [ticket for ticket in tickets_by_week[week] if ticket.damage is None]
    wrong = sum(ticket.intent != ticket.true_intent for ticket in sound) / len(sound)
    assert 0.20 < wrong < 0.30 if week == 11 else wrong < 0.04


def _make_shingles(text: str) -> frozenset[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    starts = range(max(1, len(words) - 2)) if words else ()
    return frozenset(tuple(words[start : start + 3]) for start in starts)


def _find_near_duplicates(shingles: list[frozenset[tuple[str, ...]]]) -> set[int]:
    """Return the indices of texts whose shingles have a Jaccard similarity of 0.8 or more to those of another one."""
    indices_by_shingle: dict[tuple[str, ...], list[int]] = defaultdict(list)
    duplicates: set[int] = set()
    for index, own_shingles in enumerate(shingles):
        shared_counts = Counter(other for shingle in own_shingles for other in indices_by_shingle[shingle])
        for other, count in shared_counts.items():
            if count / (len(own_shingles) + len(shingles[other]) - count) >= 0.8:
                duplicates |= {index, other}
        for shingle in own_shingles:
            indices_by_shingle[shingle].append(index)
    return duplicates


def test_replies_and_summaries_mention_only_facts_of_the_ticket() -> None:
    rows = support_replies.generate_rows(2)
    assert rows == support_replies.generate_rows(3)[: len(rows)]
    assert support_replies.REPLIES.keys() == INTENTS.keys()
    for row in rows:
        message = str(row["message"]).lower()
        for part in str(row["summary"]).split("; ")[1:]:
            assert part.lower() in message
        for order in re.findall(r"EV-?\d{6}|#\d{6}", str(row["reply"])):
            assert order.lower() in message
    assert {row["ticket_id"] for row in rows} < {row["ticket_id"] for row in generate_rows(2)}
