"""What a look for drift found, test by test: on a page of its own, and on a run's."""

from typing import Any

from evertune.report.html import Html, number, small, table, text

Json = dict[str, Any]
WHAT = {
    "embedding": "what the texts mean: maximum mean discrepancy of the champion's states (Gretton et al. 2012)",
    "vocabulary": "which words they use: shares of the 500 most frequent tokens",
    "language": "the languages that they are written in: total variation of shares",
    "length": "how long they are: Kolmogorov-Smirnov over tokens",
    "confidence": "how sure the champion is: Kolmogorov-Smirnov",
    "prediction": "what the champion says: shares of its labels",
    "performance": "how often it is right, where labels are known: worse only",
}


def tests(found: Json) -> Html:
    """One line a test, the surest first."""
    rows = [
        [
            _said(one),
            Html(f'<span class="{"bad mark" if one["found"] else ""}">{small(one["adjusted"])}</span>'),
            small(one["p"]), number(one["statistic"]), number(one["usual"]),
        ]
        for one in sorted(found["findings"], key=lambda one: one["p"])
    ]  # fmt: skip
    return table(("Test, and what it found", "p", "p alone", "Statistic", "Usual"), rows, kind="prose")


def _said(one: Json) -> Html:
    what = Html(f'<span class="soft">{text(WHAT[one["test"]])}</span>')
    return Html(f"<b>{text(one['test'])}</b>: {text(one['words'])}<br>{what}")
