"""Drift: no more false alarms than stated, and a shift that is there is found by the test that looks for it."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from evertune.monitoring import wording as drift_words
from evertune.monitoring.observations import identify_languages
from evertune.samples.support_tickets import write_tickets
from evertune.statistics import two_sample as drift
from evertune.statistics.two_sample import Sample, compare_samples

LABELS = np.array(["card", "refund", "order"])


def rows(count: int, seed: int, **shift: float) -> Sample:
    """Rows of one source, but for what `shift` says: of the states, the lengths, the third label, the mistakes."""
    random = np.random.default_rng(seed)
    third = 0.2 + shift.get("labels", 0)
    return Sample(
        embeddings=random.normal(shift.get("states", 0), 1, (count, 8)),
        lengths=random.poisson(12 + shift.get("length", 0), count),
        tokens=[random.zipf(1.5, 12) % 50 + int(shift.get("words", 0)) for _ in range(count)],
        languages=np.where(random.random(count) < 0.02 + shift.get("german", 0), "de", "en"),
        predicted=random.choice(LABELS, count, p=[0.5 * (1 - third), 0.5 * (1 - third), third]),
        scores=random.beta(8 - shift.get("doubt", 0), 2, count),
        wrong=random.random(count) < 0.1 + shift.get("mistakes", 0),
    )


def p_of(found: drift.Drift) -> dict[str, float]:
    return {one.test: one.adjusted for one in found.findings}


def test_under_the_null_all_p_values_are_as_likely() -> None:
    """Of 300 windows without drift the share below each level is the level: that of all tests together, too."""
    found = [compare_samples(rows(60, 2 * seed), rows(40, 2 * seed + 1), seed, deals=99) for seed in range(300)]
    for values in ([one.p for one in found], [one.findings[0].p for one in found]):
        alarms = sum(value <= 0.05 for value in values)
        low, high = stats.binom.interval(0.99, 300, 0.05)
        assert low <= alarms <= high
        assert stats.kstest(values, "uniform").pvalue > 0.001


@pytest.mark.parametrize(
    ("shift", "test"),
    [
        ({"states": 0.5}, "embedding"),
        ({"length": 3}, "length"),
        ({"words": 9}, "vocabulary"),
        ({"german": 0.1}, "language"),
        ({"labels": 0.3}, "prediction"),
        ({"doubt": 3}, "confidence"),
        ({"mistakes": 0.25}, "performance"),
    ],
)
def test_each_shift_is_found_by_its_test_and_by_no_other(shift: dict[str, float], test: str) -> None:
    found = compare_samples(rows(300, 1), rows(200, 2, **shift), 3)
    assert found.p <= 0.01
    assert {name for name, p in p_of(found).items() if p <= 0.01} == {test}
    assert found.rows == (300, 200)


GERMAN = (
    "Wo bleibt mein Paket? Es sollte gestern ankommen.",
    "Bitte erstatten Sie mir den doppelt abgebuchten Betrag.",
    "Die Lieferung ist besch\u00e4digt angekommen.",
    "Meine Karte wurde abgelehnt, was soll ich tun?",
    "Kann ich die Bestellung noch stornieren?",
    "R\u00fcckerstattung bitte",
    "Warum wurde zweimal abgebucht",
    "Ich m\u00f6chte meine Adresse \u00e4ndern",
    "Der Rabattcode funktioniert nicht",
    "Wann kommt mein Geld zur\u00fcck?",
    "Das Passwort geht nicht mehr",
    "Ich habe die falsche Gr\u00f6\u00dfe bestellt",
    "Hallo, der Artikel ist kaputt.",
    "Gibt es eine Rechnung dazu?",
    "Mein Konto wurde gesperrt",
)


def test_one_row_in_ten_of_another_language_is_found_and_its_language_named() -> None:
    """Real texts, real detection: 300 English tickets, then 135 more and 15 German ones."""
    texts = [one.message for one in write_tickets(2) if one.message]
    before, now = (identify_languages(some) for some in (texts[:300], [*texts[300:435], *GERMAN]))
    assert (identify_languages(GERMAN) == "de").sum() >= 14 and (before == "en").mean() > 0.9
    found = compare_samples(Sample(languages=before), Sample(languages=now), 3)
    assert found.p <= 0.001
    words = drift_words.describe_finding(found.findings[0], Sample(languages=before), Sample(languages=now), None)
    assert words.startswith("'de' 0.0% to ")
    assert compare_samples(Sample(languages=before), Sample(languages=identify_languages(texts[300:435])), 3).p > 0.01
    assert identify_languages([["Wo", "bleibt", "mein", "Paket", "?"]]).tolist() == ["de"]


def test_of_meanings_that_stayed_nothing_is_said_that_sounds_like_drift() -> None:
    """The sentence stands beside the p-value of every test, found or not."""
    before = rows(100, 1)
    now = rows(100, 2)
    meanings = compare_samples(before, now, 3).findings[0]
    assert meanings.test == "embedding" and meanings.p > 0.1
    assert drift_words.describe_finding(meanings, before, now, None) == (
        f"embedding distance {meanings.statistic:.2g} ({meanings.usual:.2g} expected by chance)"
    )


def test_a_champion_that_does_better_is_no_drift_of_performance() -> None:
    found = compare_samples(rows(300, 1, mistakes=0.3), rows(300, 2), 3)
    assert p_of(found)["performance"] > 0.9


def test_rows_of_one_group_are_one_piece_of_evidence() -> None:
    """Ten texts that stand thirty times each: what looks like a shift of 300 rows is one of ten."""
    random = np.random.default_rng(5)
    groups = np.repeat(np.arange(20), 30)
    lengths = random.normal(10, 3, 20)[groups]
    alone = compare_samples(Sample(lengths=lengths[:300]), Sample(lengths=lengths[300:]), 3)
    known = compare_samples(
        Sample(lengths=lengths[:300], groups=groups[:300]), Sample(lengths=lengths[300:], groups=groups[300:]), 3
    )
    assert alone.p <= 0.001 < 0.05 < known.p


def test_what_one_side_lacks_is_not_tested() -> None:
    one = rows(50, 1)
    other = rows(50, 2)
    without = Sample(**{**vars(other), "wrong": None, "embeddings": None})
    assert set(p_of(compare_samples(one, without, 1))) == {
        "vocabulary",
        "language",
        "length",
        "confidence",
        "prediction",
    }
    with pytest.raises(ValueError, match="need rows"):
        compare_samples(one, other.take(np.zeros(0, np.int64)), 1)


def test_more_rows_than_are_looked_at_are_drawn() -> None:
    found = compare_samples(rows(500, 1), rows(400, 2), 3, deals=19, max_rows=100)
    assert found.rows == (100, 100)
    assert found == compare_samples(rows(500, 1), rows(400, 2), 3, deals=19, max_rows=100)


@given(st.integers(1, 8), st.integers(2, 40), st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_adjusted_p_values_are_in_order_and_not_below_their_own(tests: int, deals: int, seed: int) -> None:
    values: Any = np.random.default_rng(seed).normal(size=(tests, deals))
    ranks = np.array([drift._p_values(one) for one in values])
    adjusted = drift._adjust_p_values(ranks)
    assert (adjusted >= ranks[:, 0] - 1e-12).all() and (adjusted <= 1).all()
    order = np.argsort(ranks[:, 0], kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()
