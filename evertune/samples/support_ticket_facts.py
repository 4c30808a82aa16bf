"""The facts of one ticket: the customer, the amounts and the dates that its phrases share."""

import unicodedata
from datetime import date, datetime, timedelta
from random import Random

from evertune.samples.support_ticket_customers import COUNTRIES, Country
from evertune.samples.support_ticket_grammar import Facts, expand_phrase
from evertune.samples.support_ticket_styles import STYLES

_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_UNFOLDED = str.maketrans({"ß": "ss", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "ı": "i", "æ": "ae"})  # noqa: RUF001
_MAIL_HOSTS = ("example.com", "example.org", "example.net", "mail.example", "post.example")


def draw_facts(customer: int, written: datetime, seed: int, rng: Random) -> Facts:
    """Return the facts of a new ticket; a customer's name and country are the same in all of their tickets."""
    person = Random(f"{seed}/customer/{customer}")
    country = person.choices(COUNTRIES, [country.weight for country in COUNTRIES])[0]
    first = person.choice(country.first)
    last = person.choice(country.last)
    facts = {
        "customer": f"C-{customer}",
        "first": first,
        "name": f"{first} {last}",
        "city": person.choice(country.cities),
        "email": _make_email(first, last, person),
        "oldemail": _make_email(first, last, person),
        "style": person.choices(list(STYLES), list(STYLES.values()))[0],  # how they type; no slot of a phrase
    }
    return facts | _draw_amounts_and_streets(country, rng) | _draw_dates(written.date(), rng)


def _make_email(first: str, last: str, rng: Random) -> str:
    plain = unicodedata.normalize("NFKD", f"{first}.{last}".translate(_UNFOLDED)).encode("ascii", "ignore").decode()
    local = plain.lower().replace(" ", "").replace("'", "")
    return f"{local}{rng.choice(('', '', rng.randrange(2, 99)))}@{rng.choice(_MAIL_HOSTS)}"


def _draw_amounts_and_streets(country: Country, rng: Random) -> Facts:
    amount = rng.choice(country.amounts)
    amount2 = rng.choice(country.amounts)
    street = rng.choice(country.streets)
    oldstreet = rng.choice(country.streets)
    texts = {"amount": amount, "amount2": amount2, "street": street, "oldstreet": oldstreet}
    return {name: expand_phrase(text, {}, rng) for name, text in texts.items()}


def _draw_dates(today: date, rng: Random) -> Facts:
    days = rng.randrange(5, 20)
    late = rng.randrange(2, min(days - 1, 9))
    style = rng.randrange(5)
    order_date = today - timedelta(days)
    return {
        "days": str(days),
        "late": str(late),
        "date": format_day(order_date, style),
        "when": _describe_order_day(order_date, days, style, rng),
        "promised": format_day(today - timedelta(late), style),
        "due": format_day(today + timedelta(rng.randrange(2, 10)), style),
        "weekday": _WEEKDAYS[(today.weekday() + rng.randrange(2, 6)) % 7],
        "month": _MONTHS[(today.month - rng.randrange(2, 4)) % 12],
        "later": _MONTHS[(today.month + rng.randrange(0, 3)) % 12],
    }


def format_day(day: date, style: int) -> str:
    """Return a day as a customer writes it, in one of five styles (0 to 4)."""
    month = _MONTHS[day.month - 1]
    return (
        f"{day.day} {month}",
        f"{month[:3]} {day.day}",
        f"{day.day:02}/{day.month:02}",
        f"{day.day}.{day.month}.",
        f"{month} {day.day}",
    )[style]


def _describe_order_day(order_date: date, days: int, style: int, rng: Random) -> str:
    on_date = f"on {format_day(order_date, style)}"
    if days < 8:
        vague = f"last {_WEEKDAYS[order_date.weekday()]}"
    elif days < 11:
        vague = "last week"
    else:
        vague = "two weeks ago"
    return rng.choice((on_date, on_date, vague, f"{days} days ago"))
