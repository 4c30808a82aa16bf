"""Cut a corpus by time into windows."""

import calendar
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from evertune.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

UNITS = ("day", "week", "month")


@dataclass(frozen=True)
class Windows:
    """Windows from that of the first row to that of the last one.

    Args:
        starts: first day of each window; windows are numbered from 1.
        number: (rows,) number of each row's window; 0 for a row in no window.
        undated: number of rows without a timestamp.
        future: number of rows with a timestamp in the future.
    """

    starts: tuple[date, ...]
    number: "np.ndarray[Any, Any]"
    undated: int
    future: int

    def __len__(self) -> int:
        return len(self.starts)


def cut_history(moments: "pa.ChunkedArray", every: str, now: datetime) -> Windows:
    """Cut rows into windows of the calendar, in UTC; a week begins on Monday.

    Args:
        moments: (rows,) timestamps in microseconds, null for rows without one.
        every: one of `UNITS`, or `N days`.
        now: rows after it are in the future.
    Raises:
        ConfigError: `every` is not a valid length.
        DataError: no row has a timestamp in the past.
    """
    import numpy as np

    size = _parse_days(every)
    is_missing = np.asarray(moments.is_null())
    values = moments.cast("int64").fill_null(0).to_numpy()
    is_future = ~is_missing & (values > int(now.timestamp() * 1e6))
    is_placed = ~is_missing & ~is_future
    if not is_placed.any():
        raise DataError("no row has a timestamp in the past; map a column with data.columns.timestamp")
    days = values // 86_400_000_000  # since 1970
    starts = list(_list_starts(int(days[is_placed].min()), int(days[is_placed].max()), every, size))
    number = np.where(is_placed, np.searchsorted(starts, days, side="right"), 0)
    dates = tuple(date(1970, 1, 1) + timedelta(days=start) for start in starts)
    return Windows(dates, number, int(is_missing.sum()), int(is_future.sum()))


def _parse_days(every: str) -> int:
    """Return the days of a window; 0 for months."""
    if every in UNITS:
        return {"day": 1, "week": 7, "month": 0}[every]
    number, _, unit = every.partition(" ")
    if number.isdecimal() and int(number) and unit in {"day", "days"}:
        return int(number)
    raise ConfigError(f"--every {every}: use day, week, month, or a number of days such as '10 days'")


def _list_starts(first: int, last: int, every: str, size: int) -> list[int]:
    """Return the first day of each window from the one of day `first` to the one of day `last`, as days since 1970."""
    first_date = datetime.fromtimestamp(first * 86_400, UTC).date()
    if every == "week":
        first -= first_date.weekday()
    if size:
        return list(range(first, last + 1, size))
    starts = []
    day = first_date.replace(day=1)
    number = (day - date(1970, 1, 1)).days
    while number <= last:
        starts.append(number)
        day += timedelta(days=calendar.monthrange(day.year, day.month)[1])
        number = (day - date(1970, 1, 1)).days
    return starts
