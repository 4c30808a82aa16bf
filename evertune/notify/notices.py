"""What people are told: a title, the reason with its evidence, and the commands that follow from it."""

import shlex
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from evertune.errors import EvertuneError
from evertune.records import Monitoring, Outcome, digest
from evertune.runtime.home import find_home
from evertune.runtime.secrets import hidden

if TYPE_CHECKING:
    from evertune.config import Recipe

LONGEST = 1500  # characters of an error
SHOWN = 8  # pieces of evidence
Tone = Literal["info", "success", "warning", "failure"]
TONES: dict[str, Tone] = {"promoted": "success", "held": "info", "rejected": "warning", "waiting": "warning"}


@dataclass(frozen=True)
class Notice:
    """One message.

    Args:
        events: it is sent where the recipe asks for one of these.
        key: the same key, the same notice; None where each is one of its own.
    """

    events: tuple[str, ...]
    tone: Tone
    title: str
    body: str
    key: str | None = None


def outcome(recipe: "Recipe", found: Outcome, champion: Mapping[str, float], link: str = "") -> Notice:
    """How a run ended.

    Args:
        champion: its metrics on the same test rows; empty where none was met.
        link: the run's page in MLflow.
    """
    event = "waiting" if found.waiting else found.decision
    word = "waits for approval" if found.waiting else f"is {found.decision}"
    rows = found.rows
    lines = [
        found.reason, "", *_metrics(recipe.metric, found, champion), *_evidence(found.evidence),
        f"rows: {rows['new']:,} fresh, {rows['accepted']:,} accepted, {rows['refused']:,} refused",
        f"champion: {f'version {found.champion_version}' if found.champion_version else 'none yet'}",
        *([f"run: {link}"] if link.startswith("http") else []),
        f"report: {found.report}", *_next(recipe, _moves(event, found.version)),
    ]  # fmt: skip
    key = digest(event, found.run_id, found.version, found.reason)
    return Notice((event,), TONES[event], f"{found.model}: version {found.version} {word}", "\n".join(lines), key)


def drift(recipe: "Recipe", found: Monitoring) -> Notice:
    """What `monitor` found; the same finding over the same rows is the same notice."""
    findings = [f"{one['test']}: p = {one['adjusted']:.3f}, {one['words']}" for one in found.findings]
    rows = f"rows: {found.rows['current']:,} of {found.source}, beside {found.rows['reference']:,} test rows"
    commands = ("evertune run {}", "evertune monitor {}")
    lines = [found.reason, "", *findings, rows, f"report: {found.report}", *_next(recipe, commands)]
    key = digest("drift", found.version, found.p, found.rows, found.source, found.reason)
    title = f"{found.model}: drift since version {found.version}"
    return Notice(("drift",), "warning", title, "\n".join(lines), key)


def failure(recipe: "Recipe", error: BaseException, job: str) -> Notice:
    """A flow that ended with an error.

    Args:
        job: the flow's name.
    """
    after = ["", "The next run goes on from the last finished step."] if job == "retrain" else []
    command = "run" if job == "retrain" else job
    lines = [_words(error), *after, *_next(recipe, (f"evertune {command} {{}}", "evertune check {}"))]
    return Notice(("failed",), "failure", f"{recipe.registered_name}: {job} failed", "\n".join(lines))


def stopped(recipe: "Recipe", summary: str) -> Notice:
    """A batch that the contract refused as a whole.

    Args:
        summary: why, with counts; no row's text.
    """
    lines = [summary, *_next(recipe, ("evertune quarantine {}", "evertune run {}"))]
    title = f"{recipe.registered_name}: the contract stopped a batch, nothing was taken in"
    return Notice(("quarantine", "failed"), "failure", title, "\n".join(lines))


def trial(recipe: "Recipe") -> Notice:
    """What `evertune check --notify` sends."""
    events = ", ".join(recipe.notify.events)
    body = f"A test message. This is where people are told of {recipe.registered_name}: {events}."
    return Notice((), "info", f"{recipe.registered_name}: a test message", body)


def _metrics(metric: str, found: Outcome, champion: Mapping[str, float]) -> Iterator[str]:
    """The gate's metric on all test rows, of both models."""
    ours, theirs = found.metrics.get("test", {}).get(metric), champion.get(metric)
    beside = "" if theirs is None else f", champion {theirs:.4f}"
    if ours is not None:
        yield f"{metric}: challenger {ours:.4f}{beside} on all test rows"


def _evidence(evidence: tuple[dict[str, Any], ...]) -> Iterator[str]:
    """Each test in a line: both models, the interval of the difference, and whether it passed."""
    for one in evidence[:SHOWN]:
        told = [f"{name} {one[name]:.4f}" for name in ("challenger", "champion") if one.get(name) is not None]
        if None not in (one.get("low"), one.get("high")):
            what = "difference " if one.get("estimate") is not None else ""
            told.append(f"{what}{_number(one.get('estimate'))}interval {one['low']:.4f} to {one['high']:.4f}")
        told += [f"p = {one['p']:.2g}"] if one.get("p") is not None else []
        told += [f"{one['rows']:,} rows"] if one.get("rows") else []
        passed = {True: "passed", False: "not passed", None: "reported"}[one.get("passed")]
        on = f" on {one['on']}" if one.get("on") else ""
        yield f"{one['test']}{on}: {passed}" + (f" ({'; '.join(told)})" if told else "")
    if len(evidence) > SHOWN:
        yield f"and {len(evidence) - SHOWN} tests more, see the report"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:+.4f}, "


def _moves(event: str, version: int | None) -> tuple[str, ...]:
    """The commands that a decision calls for; `{}` stands for the recipe."""
    return {
        "waiting": (
            f'evertune approve {{}} --version {version} --reason "..."',
            f'evertune reject {{}} --version {version} --reason "..."',
        ),
        "promoted": ('evertune rollback {} --reason "..."', f"evertune trace {{}} --version {version}"),
    }.get(event, (f"evertune trace {{}} --version {version}", "evertune history {}"))


def _next(recipe: "Recipe", commands: tuple[str, ...]) -> Iterator[str]:
    """The commands with the recipe's own path, and where they are typed."""
    path = shlex.quote(str(recipe.folder / recipe.file)) if recipe.file else "RECIPE"
    yield ""
    yield f"On {socket.gethostname()}, with the home {find_home(recipe.folder)}:"
    yield from (f"  {command.format(path)}" for command in commands)


def _words(error: BaseException) -> str:
    """An error as people are told of it; what the environment hides stays hidden."""
    if isinstance(error, EvertuneError):
        text = hidden(str(error))
    else:
        first = str(error).strip().splitlines() or [""]
        text = f"{type(error).__name__}: {hidden(first[0])}"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ... (the whole error stands in the run's log)"
