"""The sample corpus keeps what it promises: the same rows everywhere, few broken ones, a drift and a week of noise."""

import hashlib
import json
import re
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from evertune.samples import support_replies
from evertune.samples.support_ticket_damage import KINDS
from evertune.samples.support_tickets import INTENTS, WEEKS, Ticket, list_broken, rows, write_tickets

DIGEST = "6e251f1e322b1543c3ef1e944bb6e12a580e166b7eb534473ee707f130d95083"  # of rows(WEEKS)
MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
WALLET = re.compile(r"\b(wallet|cashback|points|balance|app)\b", re.IGNORECASE)


@pytest.fixture(scope="module")
def corpus() -> list[Ticket]:
    return write_tickets(WEEKS)


@pytest.fixture(scope="module")
def by_week(corpus: list[Ticket]) -> dict[int, list[Ticket]]:
    weeks: dict[int, list[Ticket]] = defaultdict(list)
    for ticket in corpus:
        weeks[(ticket.written - MONDAY).days // 7 + 1].append(ticket)
    return weeks


def test_rows_are_the_same_for_the_same_seed_only() -> None:
    assert rows(2, seed=5) == rows(2, seed=5)
    assert rows(2, seed=5) != rows(2, seed=6)


def test_corpus_is_the_same_on_every_python_and_platform(corpus: list[Ticket]) -> None:
    text = json.dumps([ticket.to_row() for ticket in corpus])
    assert hashlib.sha256(text.encode()).hexdigest() == DIGEST, "new phrases? then renew DIGEST and the reported scores"


@pytest.mark.parametrize("weeks", [0, 1, 4, 8, 11])
def test_fewer_weeks_are_a_prefix(weeks: int, corpus: list[Ticket]) -> None:
    fewer = write_tickets(weeks)
    assert fewer == corpus[: len(fewer)]
    assert rows(weeks) == [ticket.to_row() for ticket in fewer]


@pytest.mark.parametrize("weeks", [-1, WEEKS + 1])
def test_weeks_out_of_range_are_refused(weeks: int) -> None:
    with pytest.raises(ValueError, match="ask for 0 to 12"):
        rows(weeks)


def test_rows_have_five_columns_in_order() -> None:
    assert list(rows(1)[0]) == ["ticket_id", "message", "intent", "created_at", "customer"]


def test_weeks_have_their_size(by_week: dict[int, list[Ticket]]) -> None:
    assert sorted(by_week) == list(range(1, WEEKS + 1))
    for week, told in by_week.items():
        assert abs(len(told) - (450 if week == 9 else 300)) < 20
    assert len({len(told) for told in by_week.values()}) > 3


def test_intents_are_unevenly_frequent(by_week: dict[int, list[Ticket]]) -> None:
    meant = Counter(ticket.meant for week in range(1, 9) for ticket in by_week[week])
    shares = {intent: count / meant.total() for intent, count in meant.items()}
    assert set(shares) == set(INTENTS)
    assert 0.018 < min(shares.values()) < 0.032
    assert 0.11 < max(shares.values()) < 0.15


def test_timestamps_never_go_back(corpus: list[Ticket]) -> None:
    stamps = [datetime.fromisoformat(str(ticket.to_row()["created_at"])) for ticket in corpus]
    assert all(before <= after for before, after in pairwise(stamps))
    assert stamps[0] >= MONDAY and stamps[-1] < MONDAY + timedelta(weeks=WEEKS)


def test_ids_are_unique_and_grow_except_the_planted(corpus: list[Ticket]) -> None:
    honest = [ticket.ticket_id for ticket in corpus if ticket.broken != "duplicate_id"]
    assert all(before < after for before, after in pairwise(honest))
    assert all(re.fullmatch(r"T-\d{6}", ticket_id) for ticket_id in honest)


def test_planted_ids_repeat_one_of_the_same_week(by_week: dict[int, list[Ticket]]) -> None:
    for told in by_week.values():
        for ticket in (ticket for ticket in told if ticket.broken == "duplicate_id"):
            same = [other for other in told if other.ticket_id == ticket.ticket_id]
            assert len(same) == 2
            assert same[0].message != same[1].message


def test_every_kind_of_damage_comes_in_the_first_four_weeks() -> None:
    assert set(list_broken(4).values()) == set(KINDS)


def test_broken_rows_are_few_in_every_week(by_week: dict[int, list[Ticket]], corpus: list[Ticket]) -> None:
    for told in by_week.values():
        assert 0 < sum(ticket.broken is not None for ticket in told) / len(told) <= 0.025
    assert 0.01 < sum(ticket.broken is not None for ticket in corpus) / len(corpus) < 0.02


SIGNS = {
    "empty_message": lambda row: row["message"] is not None and not row["message"].strip(),
    "missing_message": lambda row: row["message"] is None,
    "missing_label": lambda row: row["intent"] is None,
    "unknown_label": lambda row: row["intent"] is not None and row["intent"] not in INTENTS,
    "mojibake": lambda row: re.search("\ufffd|Â|â€|Ã", row["message"] or "") is not None,
    "control_characters": lambda row: re.search("[\x00-\x08\x1b]", row["message"] or "") is not None,
    "too_long": lambda row: len(row["message"] or "") > 4000,
}


@pytest.mark.parametrize("kind", SIGNS)
def test_damage_is_where_the_map_says_and_nowhere_else(kind: str, corpus: list[Ticket]) -> None:
    shown = {at for at, ticket in enumerate(corpus) if SIGNS[kind](ticket.to_row())}
    assert shown == {at for at, ticket in enumerate(corpus) if ticket.broken == kind}


def test_damage_is_told_by_row_index(corpus: list[Ticket]) -> None:
    early = write_tickets(2)
    assert list_broken(2) == {at: ticket.broken for at, ticket in enumerate(corpus[: len(early)]) if ticket.broken}


def test_replacement_characters_come_too(corpus: list[Ticket]) -> None:
    assert any("\ufffd" in (ticket.message or "") for ticket in corpus)


def test_sound_messages_have_no_unfilled_slot(corpus: list[Ticket]) -> None:
    sound = [str(ticket.message) for ticket in corpus if ticket.broken is None]
    assert not [message for message in sound if re.search(r"[][{}|^]", message)]


def test_near_duplicates_are_few_but_there(corpus: list[Ticket]) -> None:
    shingles = [_shingles(ticket.message or "") for ticket in corpus if ticket.broken != "too_long"]
    near = _near_duplicates(shingles)
    assert 0.005 < len(near) / len(shingles) < 0.05


def test_some_customers_write_often(corpus: list[Ticket]) -> None:
    tickets_of = Counter(ticket.customer for ticket in corpus)
    assert 0.2 < sum(count > 1 for count in tickets_of.values()) / len(tickets_of) < 0.8


def test_short_and_long_messages_are_both_common(corpus: list[Ticket]) -> None:
    words = [len((ticket.message or "").split()) for ticket in corpus if not ticket.broken]
    assert sum(count <= 5 for count in words) / len(words) > 0.05
    assert sum(count >= 35 for count in words) / len(words) > 0.15


def test_wallet_words_come_only_with_the_app(by_week: dict[int, list[Ticket]]) -> None:
    for week in range(1, 9):
        assert not [ticket.message for ticket in by_week[week] if WALLET.search(ticket.message or "")]
    drifted = [ticket for week in range(9, WEEKS + 1) for ticket in by_week[week] if ticket.drifted and ticket.message]
    assert {ticket.meant for ticket in drifted} == {"refund_request"}
    said = sum(WALLET.search(ticket.message or "") is not None for ticket in drifted)
    assert said / len(drifted) > 0.75  # typos, short ones and talk about points in other words are the rest


@pytest.mark.parametrize(("week", "share"), [(9, 0.30), (10, 0.20), (11, 0.20), (12, 0.20)])
def test_the_drifted_intent_takes_its_share(week: int, share: float, by_week: dict[int, list[Ticket]]) -> None:
    refunds = [ticket for ticket in by_week[week] if ticket.meant == "refund_request"]
    assert abs(len(refunds) / len(by_week[week]) - share) < 0.05
    assert sum(ticket.drifted for ticket in refunds) / len(refunds) > 0.8


@pytest.mark.parametrize("week", range(1, WEEKS + 1))
def test_labels_are_wrong_in_the_week_of_noise(week: int, by_week: dict[int, list[Ticket]]) -> None:
    sound = [ticket for ticket in by_week[week] if ticket.broken is None]
    wrong = sum(ticket.intent != ticket.meant for ticket in sound) / len(sound)
    assert 0.20 < wrong < 0.30 if week == 11 else wrong < 0.04


def _shingles(text: str) -> frozenset[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return frozenset(tuple(words[at : at + 3]) for at in range(max(1, len(words) - 2))) if words else frozenset()


def _near_duplicates(shingles: list[frozenset[tuple[str, ...]]]) -> set[int]:
    seen: dict[tuple[str, ...], list[int]] = defaultdict(list)
    near: set[int] = set()
    for at, mine in enumerate(shingles):
        shared = Counter(other for shingle in mine for other in seen[shingle])
        for other, count in shared.items():
            if count / (len(mine) + len(shingles[other]) - count) >= 0.8:
                near |= {at, other}
        for shingle in mine:
            seen[shingle].append(at)
    return near


def test_replies_and_summaries_speak_of_nothing_but_what_stands_in_the_ticket() -> None:
    made = support_replies.rows(2)
    assert made == support_replies.rows(3)[: len(made)] and support_replies.REPLIES.keys() == INTENTS.keys()
    for row in made:
        message = str(row["message"]).lower()
        for part in str(row["summary"]).split("; ")[1:]:
            assert part.lower() in message
        for order in re.findall(r"EV-?\d{6}|#\d{6}", str(row["reply"])):
            assert order.lower() in message
    assert {row["ticket_id"] for row in made} < {row["ticket_id"] for row in rows(2)}
