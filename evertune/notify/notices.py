"""The texts of notices: a title, the reason with its evidence, and the commands to run next."""

import shlex
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from evertune.errors import EvertuneError
from evertune.records import Evidence, Monitoring, Outcome, compute_digest
from evertune.runtime.home import find_home
from evertune.runtime.secrets import hide_secrets

if TYPE_CHECKING:
    from evertune.config import Recipe

MAX_ERROR = 1500  # characters of an error
MAX_TESTS = 8  # tests of the gate that are shown
Tone = Literal["info", "success", "warning", "failure"]
TONES: dict[str, Tone] = {"promoted": "success", "held": "info", "rejected": "warning", "waiting": "warning"}


@dataclass(frozen=True)
class Notice:
    """One message.

    Args:
        events: the notice is sent if the recipe asks for one of these.
        key: a notice with the same key is sent once; None to send it each time.
    """

    events: tuple[str, ...]
    tone: Tone
    title: str
    body: str
    key: str | None = None


def describe_outcome(recipe: "Recipe", result: Outcome, champion: Mapping[str, float], link: str = "") -> Notice:
    """Return the notice of how a run ended.

    Args:
        champion: its metrics on the same test rows; empty without a champion.
        link: the run's page in MLflow.
    """
    event = "waiting" if result.waiting else result.decision
    word = "waits for approval" if result.waiting else f"is {result.decision}"
    rows = result.rows
    lines = [
        result.reason,
        "",
        *_format_metrics(recipe.metric, result, champion),
        *_format_evidence(result.evidence),
        f"rows: {rows['new']:,} fresh, {rows['accepted']:,} accepted, {rows['refused']:,} refused",
        f"champion: {f'version {result.champion_version}' if result.champion_version else 'none yet'}",
        *([f"run: {link}"] if link.startswith("http") else []),
        f"report: {result.report}",
        *_list_commands(recipe, _suggest_commands(event, result.version)),
    ]
    key = compute_digest(event, result.run_id, result.version, result.reason)
    return Notice((event,), TONES[event], f"{result.model}: version {result.version} {word}", "\n".join(lines), key)


def describe_drift(recipe: "Recipe", monitoring: Monitoring) -> Notice:
    """Return the notice of drift; the same findings over the same rows give the same notice."""
    findings = [
        f"{finding['test']}: p = {finding['adjusted']:.3f}, {finding['words']}" for finding in monitoring.findings
    ]
    rows = (
        f"rows: {monitoring.rows['current']:,} from {monitoring.source}, compared with "
        f"{monitoring.rows['reference']:,} test rows"
    )
    commands = ("evertune run {}", "evertune monitor {}")
    lines = [monitoring.reason, "", *findings, rows, f"report: {monitoring.report}", *_list_commands(recipe, commands)]
    key = compute_digest(
        "drift", monitoring.version, monitoring.p, monitoring.rows, monitoring.source, monitoring.reason
    )
    title = f"{monitoring.model}: drift since version {monitoring.version}"
    return Notice(("drift",), "warning", title, "\n".join(lines), key)


def describe_failure(recipe: "Recipe", error: BaseException, job: str) -> Notice:
    """Return the notice of a flow that ended with an error.

    Args:
        job: the flow's name.
    """
    hint = ["", "The next run continues from the last finished step."] if job == "retrain" else []
    command = "run" if job == "retrain" else job
    lines = [_format_error(error), *hint, *_list_commands(recipe, (f"evertune {command} {{}}", "evertune check {}"))]
    return Notice(("failed",), "failure", f"{recipe.registered_name}: {job} failed", "\n".join(lines))


def describe_stopped_batch(recipe: "Recipe", summary: str) -> Notice:
    """Return the notice of a batch that the contract refused as a whole.

    Args:
        summary: the reason, with counts and without text of rows.
    """
    lines = [summary, *_list_commands(recipe, ("evertune quarantine {}", "evertune run {}"))]
    title = f"{recipe.registered_name}: the contract stopped a batch, no row was ingested"
    return Notice(("quarantine", "failed"), "failure", title, "\n".join(lines))


def make_test_notice(recipe: "Recipe") -> Notice:
    """Return the notice that `evertune check --notify` sends."""
    events = ", ".join(recipe.notify.events)
    body = f"A test message. Notices of {recipe.registered_name} are sent here for: {events}."
    return Notice((), "info", f"{recipe.registered_name}: a test message", body)


def _format_metrics(metric: str, result: Outcome, champion: Mapping[str, float]) -> Iterator[str]:
    """Yield a line with the gate's metric of both models on all test rows."""
    challenger_value = result.metrics.get("test", {}).get(metric)
    champion_value = champion.get(metric)
    champion_text = "" if champion_value is None else f", champion {champion_value:.4f}"
    if challenger_value is not None:
        yield f"{metric}: challenger {challenger_value:.4f}{champion_text} on all test rows"


def _format_evidence(evidence: tuple[Evidence, ...]) -> Iterator[str]:
    """Yield a line for each test: both models, the interval of the difference, and whether it passed."""
    for test in evidence[:MAX_TESTS]:
        details = [f"{name} {test[name]:.4f}" for name in ("challenger", "champion") if test.get(name) is not None]
        if None not in (test.get("low"), test.get("high")):
            label = "difference " if test.get("estimate") is not None else ""
            details.append(
                f"{label}{_format_number(test.get('estimate'))}interval {test['low']:.4f} to {test['high']:.4f}"
            )
        details += [f"p = {test['p']:.2g}"] if test.get("p") is not None else []
        details += [f"{test['rows']:,} rows"] if test.get("rows") else []
        verdict = {True: "passed", False: "not passed", None: "reported"}[test.get("passed")]
        subset = f" on {test['on']}" if test.get("on") else ""
        yield f"{test['test']}{subset}: {verdict}" + (f" ({'; '.join(details)})" if details else "")
    if len(evidence) > MAX_TESTS:
        yield f"and {len(evidence) - MAX_TESTS} more tests, see the report"


def _format_number(value: float | None) -> str:
    return "" if value is None else f"{value:+.4f}, "


def _suggest_commands(event: str, version: int | None) -> tuple[str, ...]:
    """Return the commands to run next after a decision; `{}` stands for the recipe."""
    return {
        "waiting": (
            f'evertune approve {{}} --version {version} --reason "..."',
            f'evertune reject {{}} --version {version} --reason "..."',
        ),
        "promoted": ('evertune rollback {} --reason "..."', f"evertune trace {{}} --version {version}"),
    }.get(event, (f"evertune trace {{}} --version {version}", "evertune history {}"))


def _list_commands(recipe: "Recipe", commands: tuple[str, ...]) -> Iterator[str]:
    """Yield the commands with the recipe's path, and the host to run them on."""
    path = shlex.quote(str(recipe.folder / recipe.file)) if recipe.file else "RECIPE"
    yield ""
    yield f"On {socket.gethostname()}, with the home {find_home(recipe.folder)}:"
    yield from (f"  {command.format(path)}" for command in commands)


def _format_error(error: BaseException) -> str:
    """Return the text of an error, without secrets of the environment."""
    if isinstance(error, EvertuneError):
        text = hide_secrets(str(error))
    else:
        lines = str(error).strip().splitlines() or [""]
        text = f"{type(error).__name__}: {hide_secrets(lines[0])}"
    return text if len(text) <= MAX_ERROR else f"{text[:MAX_ERROR]} ... (see the run's log for the whole error)"
