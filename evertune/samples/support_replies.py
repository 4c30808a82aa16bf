"""Replies to the support tickets and summaries of them, derived from the facts behind each ticket."""

import re
from collections.abc import Mapping

from evertune.samples.support_tickets import Ticket, write_tickets

REPLIES: Mapping[str, tuple[str, str]] = {  # intent -> its topic in a summary, and a clerk's answer
    "order_status": ("order status", "We have looked up {it}: it is on its way, the tracking link is in your mail."),
    "refund_request": ("refund", "We have released {money} today; it reaches your account within 5 working days."),
    "delivery_delay": ("late delivery", "We have asked the courier where {it} is, and write to you by tomorrow."),
    "payment_failed": ("failed payment", "No money was taken for {it}. Please try again, or pay with another card."),
    "login_problem": ("login", "We have sent you a new link to sign in. It is valid for one hour."),
    "damaged_item": ("damaged item", "A new one is on its way for {it}, and you may keep the damaged one."),
    "cancel_order": ("cancelled order", "We have cancelled {it}. Nothing will be charged."),
    "product_question": ("product question", "A colleague who knows {it} well answers you today."),
    "cancel_subscription": ("cancelled subscription", "Your subscription is cancelled. It ends with this period."),
    "wrong_item": ("wrong item", "We send you the right one for {it}, and a label to return the other free of charge."),
    "invoice_request": ("invoice", "The invoice for {it} is attached to this mail."),
    "change_address": ("new address", "We have changed your address. Parcels that are under way keep the old one."),
    "complaint_service": ("complaint", "This is not how we want to treat anyone. A manager calls you this week."),
    "upgrade_plan": ("other plan", "Your plan is changed from today on; what you paid already is taken into account."),
    "praise": ("praise", "Thank you for your kind words. We have passed them on to the team."),
}
ORDER = re.compile(r"(?i)\bEV-?\d{6}\b|#\d{6}\b")


def generate_rows(weeks: int, seed: int = 0) -> list[dict[str, str | None]]:
    """Return the undamaged tickets of weeks 1 to `weeks` in order of time, each with its reply and its summary.

    Raises:
        ValueError: `weeks` is negative, or above the number of weeks in the corpus.
    """
    return [
        {
            "ticket_id": ticket.ticket_id,
            "message": ticket.message,
            "reply": write_reply(ticket),
            "summary": write_summary(ticket),
            "created_at": ticket.to_row()["created_at"],
        }
        for ticket in write_tickets(weeks, seed)
        if ticket.damage is None
    ]


def write_reply(ticket: Ticket) -> str:
    """Return a clerk's reply, which mentions only facts that are in the ticket."""
    name = _find_fact("first", ticket)
    money = _find_fact("amount", ticket)
    greeting = f"Dear {name}, thank you for writing." if name else "Thank you for writing."
    _, template = REPLIES[ticket.true_intent]
    answer = template.format(it=_describe_subject(ticket), money=f"your {money}" if money else "your money")
    return f"{greeting} {answer}"


def write_summary(ticket: Ticket) -> str:
    """Return the topic of the ticket, then the order and the product that it mentions."""
    topic, _ = REPLIES[ticket.true_intent]
    parts = [topic, _find_order(ticket), _find_fact("product", ticket)]
    return "; ".join(part for part in parts if part)


def _describe_subject(ticket: Ticket) -> str:
    order = _find_order(ticket)
    if order:
        return f"order {order}"
    product = _find_fact("product", ticket)
    return f"your {product}" if product else "your order"


def _find_order(ticket: Ticket) -> str:
    """Return the order number as written in the ticket, in capitals; empty if there is none."""
    match = ORDER.search(str(ticket.message))
    return match.group().upper() if match else ""


def _find_fact(slot: str, ticket: Ticket) -> str:
    """Return a fact if it is in the ticket, in whatever case; else an empty text."""
    fact = ticket.facts.get(slot, "")
    return fact if fact and fact.lower() in str(ticket.message).lower() else ""
