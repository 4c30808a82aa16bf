"""What a run shows on Prefect's page: its rows, its metrics, the decision with its evidence, and links to MLflow."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

from evertune.records import Evaluation, Monitoring, Snapshot

TESTS = (
    "test",
    "metric",
    "on",
    "passed",
    "rows",
    "groups",
    "estimate",
    "low",
    "high",
    "p",
    "threshold",
    "challenger",
    "champion",
)


def show_rows(recipe: str, snapshot: Snapshot) -> None:
    """Show how many fresh rows were accepted, and how many were refused for which reason.

    Args:
        recipe: its name; the artifact's key starts with it.
    """
    table = [{"rows": "accepted", "count": snapshot.accepted}]
    table += [{"rows": f"refused: {reason}", "count": count} for reason, count in snapshot.reasons.items()]
    splits = ", ".join(f"{count:,} {split}" for split, count in snapshot.rows.items())
    text = f"{snapshot.new:,} fresh rows. The corpus, now at version {snapshot.version}, has {splits} rows."
    create_table_artifact(table, key=f"{recipe}-rows", description=text)


def show_metrics(recipe: str, report: Evaluation) -> None:
    """Show the metrics of challenger and champion on the test rows.

    Args:
        recipe: its name.
    """
    champion = report.champion_metrics.get("test", {})
    table = [
        {"metric": name, "challenger": _format_value(value), "champion": _format_value(champion.get(name))}
        for name, value in report.metrics["test"].items()
    ]
    opponent = f"version {report.champion_version}" if report.champion_version else "none yet"
    create_table_artifact(table, key=f"{recipe}-metrics", description=f"On the test rows. Champion: {opponent}.")


def show_decision(
    recipe: str, verdict: str, reason: str, version: int | None, evidence: Iterable[Mapping[str, object]] = ()
) -> None:
    """Show the gate's decision, its reason, and every test behind it.

    Args:
        recipe: its name.
        version: registered version; None where nothing was decided on.
        evidence: of the gate, one mapping a test.
    """
    rows = [[test.get(name) for name in TESTS] for test in evidence]
    lines = [" | ".join(_format_value(value) for value in row) for row in rows]
    head = [" | ".join(TESTS), " | ".join("---" for _ in TESTS)]
    table = "\n".join(f"| {line} |" for line in [*head, *lines]) if lines else ""
    create_markdown_artifact(
        f"# {verdict}\n\n{reason}\n\n{table}", key=f"{recipe}-decision", description=f"{verdict}, version {version}"
    )


def show_drift(recipe: str, monitoring: Monitoring) -> None:
    """Show whether the rows have drifted, and the result of each test.

    Args:
        recipe: its name.
    """
    lines = [
        f"| {finding['test']} | {_format_value(finding['adjusted'])} | {finding['words']} |"
        for finding in monitoring.findings
    ]
    table = "\n".join(["| test | p | what changed |", "| --- | --- | --- |", *lines]) if lines else ""
    word = "drift" if monitoring.drifted else "no drift"
    create_markdown_artifact(f"# {word}\n\n{monitoring.reason}\n\n{table}", key=f"{recipe}-drift", description=word)


def show_report(recipe: str, report: str, link: str) -> None:
    """Show where the run's report and model card are, and how to find its run in MLflow.

    Args:
        recipe: its name.
        report: path of the page.
        link: address of the run's page on an MLflow server, else the command that starts one.
    """
    has_server = link.startswith("http")
    run = f"[the run in MLflow]({link})" if has_server else f"the run in MLflow (start it with `{link}`)"
    lines = [
        f"- the report: `{report}`",
        f"- the model card: `{Path(report).with_name('README.md')}`",
        f"- both are also artifacts, in the folder `report`, of {run}, beside parameters, metrics and the model",
    ]
    create_markdown_artifact("\n".join(lines), key=f"{recipe}-report", description="Where to find the report.")
    if has_server:
        text = f"The [run in MLflow]({link}): parameters, metrics by step, report, model."
        create_link_artifact(link, key=f"{recipe}-mlflow", link_text="the run in MLflow", description=text)


def _format_value(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)
