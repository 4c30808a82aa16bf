"""Histories of twelve windows for comparing gates: two that time wrote, and made ones of five kinds from three corpora.

Every history comes with its truth: clean rows from the distribution of each window that no model was trained on. What a
promotion was worth is measured on these, not on a window's few rows.
"""

import csv
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from benchmarks.command import ROOT, NotHereError
from evertune.samples import support_tickets

DATA = ROOT.parent / "shared" / "data"
WINDOWS = 12
ROWS = 200  # of each window of a made history
TRUTH = 300  # clean rows of each window, at most
START = datetime(2025, 1, 6, tzinfo=UTC)
CORPORA = ("banking77", "ag_news", "phrasebank")
KINDS = ("iid", "gradual", "new-class", "noise", "season")
CLASSES = 20  # of banking77
RATINGS = 400  # of each year of MovieLens
YEARS = range(2005, 2017)
NOISE_WINDOWS = (6, 9)
NOISE = 0.4
NEW_CLASS_FROM = 7
TRUTH_SEEDS = 3  # other seeds of the sample corpus whose tickets are the truth

Row = tuple[int, str, str]  # window, text, label


@dataclass(frozen=True)
class History:
    """Rows as they came, and the truth of each window.

    Args:
        name: such as `banking77-noise`.
        seed: of the draw.
        every: length of a window, as `evertune backtest --every` takes it.
        rows: columns of the corpus, in order of time: id, at, text, label.
        truth: clean rows of each window.
    """

    name: str
    seed: int
    every: str
    rows: list[dict[str, str]]
    truth: list[Row]


def list_histories() -> list[str]:
    """Return the names of all histories."""
    return ["tickets", "movielens", *(f"{corpus}-{kind}" for kind in KINDS for corpus in CORPORA)]


def make_history(name: str, seed: int) -> History:
    """Return a history.

    Raises:
        NotHereError: its data set is not here.
    """
    if name == "tickets":
        return _make_tickets(seed)
    if name == "movielens":
        return _make_ratings(seed)
    corpus, _, kind = name.partition("-")
    return _make_mixture(corpus, kind, seed)


def _make_tickets(seed: int) -> History:
    rows = [
        {"id": row["ticket_id"] or "", "at": row["created_at"] or "", "text": row["message"], "label": row["intent"]}
        for row in support_tickets.generate_rows(WINDOWS, seed)
        if row["message"] and row["intent"]
    ]
    truth: list[Row] = []
    for number in range(TRUTH_SEEDS):
        tickets = support_tickets.write_tickets(WINDOWS, 1000 * (number + 1) + seed)
        first = tickets[0].written
        monday = first - timedelta(days=first.weekday(), hours=first.hour, minutes=first.minute, seconds=first.second)
        truth += [
            ((ticket.written - monday).days // 7 + 1, ticket.message, ticket.true_intent)
            for ticket in tickets
            if ticket.damage is None and ticket.message
        ]
    kept = [row for row in truth if 1 <= row[0] <= WINDOWS]
    return History("tickets", seed, "week", [_as_text(row) for row in rows], _limit_truth(kept, seed))


def _as_text(row: dict[str, str | None]) -> dict[str, str]:
    return {name: value or "" for name, value in row.items()}


def _make_ratings(seed: int) -> History:
    """Some ratings of each year: a movie's title and genres, and whether its viewer gave it four stars or more."""
    with _open(DATA / "movielens_small" / "movies.csv") as file:
        movies = {row["movieId"]: f"{row['title']}: {row['genres'].replace('|', ', ')}" for row in csv.DictReader(file)}
    by_year = defaultdict(list)
    with _open(DATA / "movielens_small" / "ratings.csv") as file:
        for row in csv.DictReader(file):
            by_year[datetime.fromtimestamp(int(row["timestamp"]), UTC).year].append(row)
    rows = []
    truth: list[Row] = []
    for window, year in enumerate(YEARS, start=1):
        drawn = Random(f"{seed}/{year}").sample(by_year[year], len(by_year[year]))
        for position, row in enumerate(drawn[: RATINGS + TRUTH]):
            liked = "yes" if float(row["rating"]) >= 4 else "no"
            if position < RATINGS:
                at = datetime.fromtimestamp(int(row["timestamp"]), UTC).isoformat()
                name = f"{row['userId']}-{row['movieId']}"
                rows.append({"id": name, "at": at, "text": movies[row["movieId"]], "label": liked})
            else:
                truth.append((window, movies[row["movieId"]], liked))
    return History("movielens", seed, "365 days", rows, truth)


def _open(path: Path):  # type: ignore[no-untyped-def]  # a text file, as `Path.open` returns it
    if not path.is_file():
        raise NotHereError(f"{path.name} of {path.parent.name} is not here")
    return path.open(encoding="utf-8", errors="replace", newline="")


def _read_corpus(corpus: str) -> dict[str, list[str]]:
    """Return the distinct texts of each label."""
    files = {
        "banking77": ("text", "category", ["banking77/train.csv", "banking77/test.csv"]),
        "ag_news": ("title", "topic", ["ag_news/news.csv"]),
        "phrasebank": ("text", "label", ["financial_phrasebank/all.csv"]),
    }
    text_column, label_column, paths = files[corpus]
    texts: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        with _open(DATA / path) as file:
            for row in csv.DictReader(file):
                texts[row[label_column]].append(row[text_column])
    return {label: list(dict.fromkeys(values)) for label, values in sorted(texts.items())}


def _make_mixture(corpus: str, kind: str, seed: int) -> History:
    """Draw each window's labels by its shares, and texts of these labels without repetition."""
    random = Random(f"{corpus}/{kind}/{seed}")
    texts = _read_corpus(corpus)
    if corpus == "banking77":
        chosen = sorted(random.sample(sorted(texts), CLASSES))
        texts = {label: texts[label] for label in chosen}
    labels = sorted(texts)
    order = random.sample(labels, len(labels))
    pools = {label: random.sample(values, len(values)) for label, values in texts.items()}
    halves = {label: (values[: len(values) // 3], values[len(values) // 3 :]) for label, values in pools.items()}
    rows = []
    truth: list[Row] = []
    next_text = {label: _endless(halves[label][1]) for label in labels}
    for window in range(1, WINDOWS + 1):
        shares = _draw_shares(kind, window, order, {label: len(texts[label]) for label in labels})
        drawn = random.choices(list(shares), list(shares.values()), k=ROWS)
        for number, label in enumerate(drawn):
            at = START + timedelta(days=7 * (window - 1) + 6 * number / ROWS)
            wrong = kind == "noise" and window in NOISE_WINDOWS and random.random() < NOISE
            written = random.choice([other for other in labels if other != label]) if wrong else label
            row = {"id": f"{window}-{number}", "at": at.isoformat(), "text": next(next_text[label]), "label": written}
            rows.append(row)
        true_labels = random.choices(list(shares), list(shares.values()), k=TRUTH)
        truth += [(window, random.choice(halves[label][0]), label) for label in true_labels]
    return History(f"{corpus}-{kind}", seed, "week", rows, truth)


def _endless(values: Sequence[str]) -> Iterator[str]:
    while True:
        yield from values


def _draw_shares(kind: str, window: int, order: Sequence[str], sizes: dict[str, int]) -> dict[str, float]:
    """Return the share of each label in a window, in proportion to its texts unless the kind says otherwise."""
    first = set(order[: len(order) // 2])
    progress = (window - 1) / (WINDOWS - 1)
    weights: dict[str, Callable[[str], float]] = {
        "iid": lambda label: 1.0,
        "noise": lambda label: 1.0,
        "gradual": lambda label: 1.8 - 1.6 * progress if label in first else 0.2 + 1.6 * progress,
        "new-class": lambda label: 0.0 if label == order[0] and window < NEW_CLASS_FROM else 1.0,
        "season": lambda label: 1.6 if (label in first) == ((window - 1) // 3 % 2 == 0) else 0.4,
    }
    shares = {label: sizes[label] * weights[kind](label) for label in order}
    return {label: share for label, share in shares.items() if share > 0}


def _limit_truth(truth: list[Row], seed: int) -> list[Row]:
    """Return at most `TRUTH` rows of each window."""
    by_window: dict[int, list[Row]] = defaultdict(list)
    for row in truth:
        by_window[row[0]].append(row)
    random = Random(seed)
    return [
        row
        for window in sorted(by_window)
        for row in random.sample(by_window[window], min(TRUTH, len(by_window[window])))
    ]
