"""Twelve weeks of support tickets of an online shop with subscriptions, with damaged rows and a drift.

Weeks 1 to 8 are ordinary. In week 9 the shop launches an app with a loyalty wallet: from then on there are more refund
requests, and most of them mention "wallet credit" and "points". In week 11 a quarter of the labels is wrong.
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

WEEKS = 12  # weeks in the corpus
DRIFT_WEEK = 9  # the week in which the app is launched
NOISE_WEEK = 11  # the week in which a quarter of the labels is wrong
DRIFT_INTENT = "refund_request"

INTENTS: Mapping[str, tuple[float, Phrases]] = {  # intent -> percent of a week's tickets, phrases
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
_CONFUSED = {  # intent -> intents that a tired annotator mistakes it for
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
_FOLLOW_UPS = 0.045  # share of a week's tickets that follow up an earlier one
_RESENDS = 0.01  # share of a week's tickets that repeat an earlier one
_ANNOTATOR_NOISE = 0.015  # share of wrong labels in an ordinary week
_NOISE_WEEK_NOISE = 0.25  # share of wrong labels in NOISE_WEEK
_WALLET_WORDS = 0.93  # share of the refund requests that mention the wallet once it exists
_DAMAGED = 0.016  # share of damaged rows
_APP_MENTIONS = 0.06  # share of the other new tickets that mention the app
_RECENT = 250  # a follow-up or resend refers to one of this many tickets before it


@dataclass(frozen=True)
class Ticket:
    """A ticket, and the truth behind it.

    Args:
        ticket_id, message, intent, written, customer: what an export shows; `intent` is the annotator's label.
        true_intent: the intent for which the message was written.
        has_drifted: whether the message is a refund request in the words of the wallet.
        facts: what the phrases of the message share.
        damage: kind of damage, one of `support_ticket_damage.KINDS`; None for a sound row.
    """

    ticket_id: str
    message: str | None
    intent: str | None
    written: datetime
    customer: int
    true_intent: str
    has_drifted: bool
    facts: Facts
    damage: str | None = None

    def to_row(self) -> dict[str, str | None]:
        """Return the ticket as an export shows it."""
        return {
            "ticket_id": self.ticket_id,
            "message": self.message,
            "intent": self.intent,
            "created_at": self.written.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "customer": f"C-{self.customer}",
        }


def generate_rows(weeks: int, seed: int = 0) -> list[dict[str, str | None]]:
    """Return the tickets of weeks 1 to `weeks` in order of time; those of 9 weeks start with exactly those of 8.

    Raises:
        ValueError: `weeks` is not from 0 to WEEKS.
    """
    return [ticket.to_row() for ticket in write_tickets(weeks, seed)]


def list_damage(weeks: int, seed: int = 0) -> dict[int, str]:
    """Return index in `generate_rows(weeks, seed)` -> kind of damage, one of `support_ticket_damage.KINDS`.

    Raises:
        ValueError: `weeks` is not from 0 to WEEKS.
    """
    tickets = write_tickets(weeks, seed)
    return {index: ticket.damage for index, ticket in enumerate(tickets) if ticket.damage is not None}


def write_tickets(weeks: int, seed: int = 0) -> list[Ticket]:
    """Return the tickets of weeks 1 to `weeks`, each with the truth behind it.

    Raises:
        ValueError: `weeks` is not from 0 to WEEKS.
    """
    if not 0 <= weeks <= WEEKS:
        raise ValueError(f"weeks is {weeks}; it must be from 0 to {WEEKS}")
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
        ticket_id = f"T-{len(all_tickets) + 1:06}"
        all_tickets.append(_write_ticket(ticket_id, written, all_tickets[-_RECENT:], shares, seed, rng))
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
    moments = zip(days, hours, seconds, strict=True)
    return sorted(monday + timedelta(days=day, hours=hour, seconds=second) for day, hour, second in moments)


def _write_ticket(
    ticket_id: str, written: datetime, recent: list[Ticket], shares: Mapping[str, float], seed: int, rng: Random
) -> Ticket:
    chance = rng.random()
    if recent and chance < _FOLLOW_UPS + _RESENDS:
        previous = rng.choice(recent)
        if previous.true_intent != "praise":
            is_resend = chance < _RESENDS
            message = write_resend(str(previous.message), rng) if is_resend else _write_follow_up(previous, rng)
            return replace(previous, ticket_id=ticket_id, message=message, written=written)
    return _write_new_ticket(ticket_id, written, shares, seed, rng)


def _write_follow_up(previous: Ticket, rng: Random) -> str:
    facts = previous.facts | {"days_before": format_day(previous.written.date(), rng.randrange(5))}
    return write_follow_up(_choose_phrases(previous.true_intent, previous.has_drifted), facts, rng)


def _write_new_ticket(ticket_id: str, written: datetime, shares: Mapping[str, float], seed: int, rng: Random) -> Ticket:
    intent = rng.choices(list(shares), list(shares.values()))[0]
    is_launched = written >= _MONDAY + timedelta(weeks=DRIFT_WEEK - 1)
    has_drifted = is_launched and intent == DRIFT_INTENT and rng.random() < _WALLET_WORDS
    customer = rng.randrange(1000, 4200)
    facts = draw_facts(customer, written, seed, rng)
    others = {name: _choose_phrases(name, is_launched and name == DRIFT_INTENT) for name in INTENTS if name != intent}
    message = write_message(intent, _choose_phrases(intent, has_drifted), others, facts, rng)
    if is_launched and not has_drifted and rng.random() < _APP_MENTIONS:
        message = f"{message} {expand_phrase(rng.choice(APP_MENTIONS), facts, rng)}"
    return Ticket(ticket_id, message, intent, written, customer, intent, has_drifted, facts)


def _choose_phrases(intent: str, has_drifted: bool) -> Phrases:
    return WALLET_REFUND if has_drifted else INTENTS[intent][1]


def _label_tickets(week: int, seed: int, fresh_tickets: list[Ticket]) -> list[Ticket]:
    rng = Random(f"{seed}/labels/{week}")
    return [replace(ticket, intent=_draw_label(ticket.true_intent, week, rng)) for ticket in fresh_tickets]


def _draw_label(true_intent: str, week: int, rng: Random) -> str:
    chance = rng.random()
    if week == NOISE_WEEK and chance < _NOISE_WEEK_NOISE:
        return rng.choice([intent for intent in INTENTS if intent != true_intent])
    return rng.choice(_CONFUSED[true_intent]) if chance < _ANNOTATOR_NOISE else true_intent


def _damage_tickets(week: int, seed: int, fresh_tickets: list[Ticket]) -> list[Ticket]:
    rng = Random(f"{seed}/damage/{week}")
    count = round(len(fresh_tickets) * _DAMAGED)
    indices = sorted(rng.sample(range(30, len(fresh_tickets)), count))
    kinds = [KINDS[((week - 1) * 4 + i) % len(KINDS)] for i in range(count)]
    rng.shuffle(kinds)
    damaged_tickets = list(fresh_tickets)
    for index, kind in zip(indices, kinds, strict=True):
        neighbour = fresh_tickets[index - rng.randrange(1, 30)]
        damaged_tickets[index] = _damage_ticket(kind, fresh_tickets[index], neighbour, rng)
    return damaged_tickets


def _damage_ticket(kind: str, ticket: Ticket, neighbour: Ticket, rng: Random) -> Ticket:
    message = damage_message(kind, str(ticket.message), rng)
    damaged_ticket = replace(ticket, damage=kind, message=message)
    if kind == "duplicate_id":
        return replace(damaged_ticket, ticket_id=neighbour.ticket_id)
    if kind == "missing_label":
        return replace(damaged_ticket, intent=None)
    if kind == "unknown_label":
        return replace(damaged_ticket, intent=misspell_label(ticket.true_intent, rng))
    return damaged_ticket
