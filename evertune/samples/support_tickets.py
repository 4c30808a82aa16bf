"""Support tickets of an online shop with subscriptions: twelve weeks of them, broken rows and a drift included.

Weeks 1 to 8 are ordinary. In week 9 the shop launches an app with a loyalty wallet: most refund requests speak of
"wallet credit" and "points" from then on, and there are many of them. In week 11 a quarter of the labels is wrong.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import Random

from evertune.samples import support_ticket_account as account
from evertune.samples import support_ticket_money as money
from evertune.samples import support_ticket_orders as orders
from evertune.samples.support_ticket_damage import KINDS, damage_message, misspell_label
from evertune.samples.support_ticket_facts import draw_facts, format_day
from evertune.samples.support_ticket_grammar import Facts, expand_phrase
from evertune.samples.support_ticket_shared import Phrases
from evertune.samples.support_ticket_wallet import APP_MENTIONS, WALLET_REFUND
from evertune.samples.support_ticket_writing import write_follow_up, write_message, write_resend

WEEKS = 12  # the most weeks that the corpus tells of
DRIFT_WEEK = 9  # the app is launched
NOISE_WEEK = 11  # a quarter of the labels is wrong
DRIFT_INTENT = "refund_request"

INTENTS: Mapping[str, tuple[float, Phrases]] = {  # intent -> its share of a week in percent, its phrases
    "order_status": (13.0, orders.ORDER_STATUS),
    "refund_request": (11.0, money.REFUND_REQUEST),
    "delivery_delay": (9.5, orders.DELIVERY_DELAY),
    "payment_failed": (8.0, money.PAYMENT_FAILED),
    "login_problem": (7.5, account.LOGIN_PROBLEM),
    "damaged_item": (6.5, orders.DAMAGED_ITEM),
    "cancel_order": (6.5, orders.CANCEL_ORDER),
    "product_question": (6.5, account.PRODUCT_QUESTION),
    "cancel_subscription": (6.0, money.CANCEL_SUBSCRIPTION),
    "wrong_item": (5.0, orders.WRONG_ITEM),
    "invoice_request": (5.0, money.INVOICE_REQUEST),
    "change_address": (4.75, account.CHANGE_ADDRESS),
    "complaint_service": (4.75, account.COMPLAINT_SERVICE),
    "upgrade_plan": (3.5, money.UPGRADE_PLAN),
    "praise": (2.5, account.PRAISE),
}
_CONFUSED = {  # the intents that a tired annotator takes for one another
    "order_status": ("delivery_delay",),
    "delivery_delay": ("order_status", "complaint_service"),
    "refund_request": ("cancel_order", "payment_failed"),
    "cancel_order": ("refund_request", "cancel_subscription"),
    "cancel_subscription": ("cancel_order", "upgrade_plan"),
    "upgrade_plan": ("cancel_subscription", "product_question"),
    "damaged_item": ("wrong_item", "refund_request"),
    "wrong_item": ("damaged_item", "order_status"),
    "payment_failed": ("refund_request", "login_problem"),
    "login_problem": ("payment_failed", "change_address"),
    "invoice_request": ("payment_failed",),
    "change_address": ("order_status",),
    "product_question": ("order_status", "upgrade_plan"),
    "complaint_service": ("delivery_delay",),
    "praise": ("complaint_service", "product_question"),
}
_MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
_DAY_WEIGHTS = (17, 16, 15, 15, 14, 11, 12)
_HOUR_WEIGHTS = (1, 1, 1, 1, 1, 2, 4, 8, 12, 14, 14, 13, 12, 12, 12, 12, 12, 12, 13, 14, 14, 11, 6, 3)
_FOLLOW_UPS = 0.045  # shares of a week's tickets
_RESENDS = 0.01
_ANNOTATOR_NOISE = 0.015  # shares of wrong labels
_WEEK_OF_NOISE = 0.25
_WALLET_WORDS = 0.93  # share of the refund requests that speak of the wallet once it exists
_BROKEN = 0.016  # share of broken rows
_APP_MENTIONS = 0.06  # share of the other new tickets that mention the app
_RECENT = 250  # a follow-up answers one of so many tickets before it


@dataclass(frozen=True)
class Ticket:
    """A row, and beside it what the writer of the row knows: the intent meant, the drift, the damage."""

    ticket_id: str
    message: str | None
    intent: str | None
    written: datetime
    customer: int
    meant: str
    drifted: bool
    facts: Facts
    broken: str | None = None

    def to_row(self) -> dict[str, str | None]:
        """The ticket as an export shows it."""
        return {
            "ticket_id": self.ticket_id,
            "message": self.message,
            "intent": self.intent,
            "created_at": self.written.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "customer": f"C-{self.customer}",
        }


def rows(weeks: int, seed: int = 0) -> list[dict[str, str | None]]:
    """Tickets of weeks 1 to `weeks` in order of time; rows(9) starts with exactly rows(8).

    Raises:
        ValueError: `weeks` is not within 0 and WEEKS.
    """
    return [ticket.to_row() for ticket in write_tickets(weeks, seed)]


def list_broken(weeks: int, seed: int = 0) -> dict[int, str]:
    """Index in `rows(weeks, seed)` -> kind of damage, one of `support_ticket_damage.KINDS`.

    Raises:
        ValueError: `weeks` is not within 0 and WEEKS.
    """
    return {
        index: ticket.broken for index, ticket in enumerate(write_tickets(weeks, seed)) if ticket.broken is not None
    }


def write_tickets(weeks: int, seed: int = 0) -> list[Ticket]:
    """What `rows` shows, with what the writer of each row knows.

    Raises:
        ValueError: `weeks` is not within 0 and WEEKS.
    """
    if not 0 <= weeks <= WEEKS:
        raise ValueError(f"weeks is {weeks}; the corpus has {WEEKS} weeks, ask for 0 to {WEEKS}")
    sound_tickets: list[Ticket] = []
    all_tickets: list[Ticket] = []
    for week in range(1, weeks + 1):
        fresh_tickets = _write_week(week, seed, sound_tickets)
        sound_tickets += fresh_tickets
        all_tickets += _damage_tickets(week, seed, _label_tickets(week, seed, fresh_tickets))
    return all_tickets


def _write_week(week: int, seed: int, earlier: list[Ticket]) -> list[Ticket]:
    rng = Random(f"{seed}/week/{week}")
    shares = _draw_shares(week, rng)
    all_tickets = list(earlier)
    for written in _draw_moments(week, rng):
        all_tickets.append(
            _write_ticket(f"T-{len(all_tickets) + 1:06}", written, all_tickets[-_RECENT:], shares, seed, rng)
        )
    return all_tickets[len(earlier) :]


def _draw_shares(week: int, rng: Random) -> dict[str, float]:
    shares = {intent: share * rng.uniform(0.9, 1.1) for intent, (share, _) in INTENTS.items()}
    if week >= DRIFT_WEEK:
        others = sum(shares.values()) - shares[DRIFT_INTENT]
        drift_share = 0.30 if week == DRIFT_WEEK else 0.20
        shares[DRIFT_INTENT] = others * drift_share / (1 - drift_share)
    return shares


def _draw_moments(week: int, rng: Random) -> list[datetime]:
    count = (450 if week == DRIFT_WEEK else 300) + rng.randrange(-14, 15)
    monday = _MONDAY + timedelta(weeks=week - 1)
    days = rng.choices(range(7), _DAY_WEIGHTS, k=count)
    hours = rng.choices(range(24), _HOUR_WEIGHTS, k=count)
    seconds = [rng.randrange(3600) for _ in range(count)]
    return sorted(monday + timedelta(d, s, hours=h) for d, h, s in zip(days, hours, seconds, strict=True))


def _write_ticket(
    ticket_id: str, written: datetime, recent: list[Ticket], shares: Mapping[str, float], seed: int, rng: Random
) -> Ticket:
    chance = rng.random()
    if recent and chance < _FOLLOW_UPS + _RESENDS:
        previous = rng.choice(recent)
        if previous.meant != "praise":
            message = write_resend(str(previous.message), rng) if chance < _RESENDS else _make_follow_up(previous, rng)
            return replace(previous, ticket_id=ticket_id, message=message, written=written)
    return _write_new_ticket(ticket_id, written, shares, seed, rng)


def _make_follow_up(previous: Ticket, rng: Random) -> str:
    facts = previous.facts | {"days_before": format_day(previous.written.date(), rng.randrange(5))}
    return write_follow_up(_choose_phrases(previous.meant, previous.drifted), facts, rng)


def _write_new_ticket(ticket_id: str, written: datetime, shares: Mapping[str, float], seed: int, rng: Random) -> Ticket:
    intent = rng.choices(list(shares), list(shares.values()))[0]
    is_launched = written >= _MONDAY + timedelta(weeks=DRIFT_WEEK - 1)
    is_drifted = is_launched and intent == DRIFT_INTENT and rng.random() < _WALLET_WORDS
    customer = rng.randrange(1000, 4200)
    facts = draw_facts(customer, written, seed, rng)
    others = {name: _choose_phrases(name, is_launched and name == DRIFT_INTENT) for name in INTENTS if name != intent}
    message = write_message(intent, _choose_phrases(intent, is_drifted), others, facts, rng)
    if is_launched and not is_drifted and rng.random() < _APP_MENTIONS:
        message = f"{message} {expand_phrase(rng.choice(APP_MENTIONS), facts, rng)}"
    return Ticket(ticket_id, message, intent, written, customer, intent, is_drifted, facts)


def _choose_phrases(intent: str, is_drifted: bool) -> Phrases:
    return WALLET_REFUND if is_drifted else INTENTS[intent][1]


def _label_tickets(week: int, seed: int, fresh_tickets: list[Ticket]) -> list[Ticket]:
    rng = Random(f"{seed}/labels/{week}")
    return [replace(ticket, intent=_draw_label(ticket.meant, week, rng)) for ticket in fresh_tickets]


def _draw_label(true_intent: str, week: int, rng: Random) -> str:
    chance = rng.random()
    if week == NOISE_WEEK and chance < _WEEK_OF_NOISE:
        return rng.choice([intent for intent in INTENTS if intent != true_intent])
    return rng.choice(_CONFUSED[true_intent]) if chance < _ANNOTATOR_NOISE else true_intent


def _damage_tickets(week: int, seed: int, fresh_tickets: list[Ticket]) -> list[Ticket]:
    rng = Random(f"{seed}/damage/{week}")
    count = round(len(fresh_tickets) * _BROKEN)
    indices = sorted(rng.sample(range(30, len(fresh_tickets)), count))
    kinds = [KINDS[((week - 1) * 4 + i) % len(KINDS)] for i in range(count)]
    rng.shuffle(kinds)
    damaged_tickets = list(fresh_tickets)
    for index, kind in zip(indices, kinds, strict=True):
        damaged_tickets[index] = _damage_ticket(
            kind, fresh_tickets[index], fresh_tickets[index - rng.randrange(1, 30)], rng
        )
    return damaged_tickets


def _damage_ticket(kind: str, ticket: Ticket, neighbour: Ticket, rng: Random) -> Ticket:
    message = damage_message(kind, str(ticket.message), rng)
    damaged_ticket = replace(ticket, broken=kind, message=message)
    if kind == "duplicate_id":
        return replace(damaged_ticket, ticket_id=neighbour.ticket_id)
    if kind == "missing_label":
        return replace(damaged_ticket, intent=None)
    return (
        replace(damaged_ticket, intent=misspell_label(ticket.meant, rng)) if kind == "unknown_label" else damaged_ticket
    )
