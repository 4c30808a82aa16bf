"""What a look for drift found, test by test: on a page of its own, and on a run's."""

from typing import Any

from evertune.report.html import Html, build_table, escape, format_number, format_pvalue

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


def render_tests(result: Json) -> Html:
    """One line a test, the surest first."""
    rows = [
        [
            _describe_finding(finding),
            Html(f'<span class="{"bad mark" if finding["found"] else ""}">{format_pvalue(finding["adjusted"])}</span>'),
            format_pvalue(finding["p"]),
            format_number(finding["statistic"]),
            format_number(finding["usual"]),
        ]
        for finding in sorted(result["findings"], key=lambda finding: finding["p"])
    ]
    return build_table(("Test, and what it found", "p", "p alone", "Statistic", "Usual"), rows, kind="prose")


def _describe_finding(finding: Json) -> Html:
    explanation = Html(f'<span class="soft">{escape(WHAT[finding["test"]])}</span>')
    return Html(f"<b>{escape(finding['test'])}</b>: {escape(finding['words'])}<br>{explanation}")
