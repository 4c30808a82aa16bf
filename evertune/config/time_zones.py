"""Suggest the name of a time zone for what people write instead: an offset, an abbreviation, a misspelt name."""

import difflib
import re
from datetime import datetime
from zoneinfo import ZoneInfo, available_timezones

OFFSET = re.compile(r"(?:UTC|GMT|Z)?\s*([+-])(\d{1,2})(?::?(\d\d))?", re.IGNORECASE)
LARGEST = {"+": 14, "-": 12}  # hours of the zones Etc/GMT-14 to Etc/GMT+12
SEASONS = (datetime(2026, 1, 15), datetime(2026, 7, 15))  # a zone's abbreviations in winter and summer
CITIES = (  # of several zones with one abbreviation, these are shown first
    "America/Los_Angeles",
    "America/Denver",
    "America/Chicago",
    "America/New_York",
    "Europe/London",
    "Europe/Berlin",
    "Europe/Helsinki",
    "Asia/Kolkata",
    "Asia/Shanghai",
    "Asia/Tokyo",
    "Australia/Sydney",
)


def suggest_zone(text: str) -> str:
    """Return a hint that never shifts the hour: zones of that offset or abbreviation, else the nearest name."""
    if offset := OFFSET.fullmatch(text.strip()):
        return _suggest_offset(*offset.groups())
    if zones := _find_zones(text.strip().upper()):
        return f"{text} is an abbreviation; write the zone of a city, such as {' or '.join(zones[:3])}"
    near = difflib.get_close_matches(text, available_timezones(), 1)
    return f"did you mean {near[0]}?" if near else "use a name such as UTC or Europe/Berlin"


def _suggest_offset(sign: str, hours: str, minutes: str | None) -> str:
    city = "where clocks change in summer, write a city's zone, such as Europe/Berlin"
    if int(minutes or 0) or int(hours) > LARGEST[sign]:
        return "an offset is not a name; write a city's zone, such as Asia/Kolkata"
    if not int(hours):
        return f"write UTC; {city}"
    reverse = "-" if sign == "+" else "+"
    return f"write Etc/GMT{reverse}{int(hours)} (in these names the sign is reversed); {city}"


def _find_zones(abbreviation: str) -> list[str]:
    """Return the zones of cities that use an abbreviation, the best known first."""
    names = [
        name for name in available_timezones() if "/" in name and not name.startswith(("Etc/", "posix/", "right/"))
    ]
    zones = [
        name for name in names if abbreviation in {moment.replace(tzinfo=ZoneInfo(name)).tzname() for moment in SEASONS}
    ]
    return sorted(zones, key=lambda name: (CITIES.index(name) if name in CITIES else len(CITIES), name))
