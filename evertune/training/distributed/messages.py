"""What the processes of a training report to the step that started them, and the error that it means."""

import json
import logging
import os
import signal
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune import errors
from evertune.errors import TrainingError

if TYPE_CHECKING:
    from evertune.training.progress import Log

GOES_ON = "run again: training goes on from the last checkpoint"


@dataclass
class Reports:
    """What the processes have said.

    Args:
        done: facts about the finished training.
        failed: errors, each with its rank; see `described`.
        ended: rank and exit status of those that failed, the first one first.
    """

    done: dict[str, Any] | None = None
    failed: list[dict[str, Any]] = field(default_factory=list)
    ended: list[tuple[int, int]] = field(default_factory=list)


def relay_messages(lines: Iterable[bytes], log: "Log") -> Reports:
    """Pass on what the processes say, until the last of them is gone."""
    reports = Reports()
    for line in lines:
        match json.loads(line):
            case {"metrics": metrics, "step": step}:
                log(metrics, step)
            case {"log": [name, level, text]}:
                logging.getLogger(name).log(level, "%s", text)
            case {"screen": text}:
                sys.stderr.write(text)
                sys.stderr.flush()
            case {"done": facts}:
                reports.done = facts
            case {"failed": failure}:
                reports.failed.append(failure)
            case {"ended": ended}:
                reports.ended += [(rank, status) for rank, status in ended]
    return reports


def describe_error(error: Exception, rank: int) -> dict[str, Any]:
    """An error as JSON: what it is, what it says, the system's number of the one behind it."""
    from torch.distributed import DistError

    cause = error.__cause__
    is_ours = isinstance(error, errors.EvertuneError)
    return {
        "rank": rank,
        "kind": type(error).__name__,
        "ours": is_ours,
        "text": str(error)[:2000],
        "lost": not is_ours and (isinstance(error, DistError) or "gloo" in str(error)),
        "errno": cause.errno if isinstance(cause, OSError) else None,
    }


def find_cause(reports: Reports, status: int, log: Path) -> Exception:
    """The error that came first: when one process fails, the others fail because it is gone.

    Args:
        status: of the launcher.
        log: what the processes wrote to standard error.
    """
    if own_failures := [failure for failure in reports.failed if failure["ours"]]:
        cause: Exception = getattr(errors, own_failures[0]["kind"])(own_failures[0]["text"])
        if number := own_failures[0]["errno"]:
            cause.__cause__ = OSError(number, os.strerror(number))
        return cause
    other_failures = [failure for failure in reports.failed if not failure["lost"]]
    # When one process fails the launcher ends the others by SIGTERM.
    signals = [
        (rank, -code) for rank, code in reports.ended if code < 0 and not (other_failures and -code == signal.SIGTERM)
    ]
    if signals:
        rank, number = min(signals, key=lambda rank_and_signal: rank_and_signal[1] == signal.SIGTERM)
        return _describe_kill(f"process {rank} of the training", number, log)
    if status < 0:
        return _describe_kill("the launcher of the training's processes", -status, log)
    if other_failures:
        process_name = f"process {other_failures[0]['rank']} of the training"
        return RuntimeError(f"{process_name}: {other_failures[0]['kind']}: {other_failures[0]['text']}; see {log}")
    if reports.failed:
        process_name = f"process {reports.failed[0]['rank']} of the training"
        hint = f"{log} and what the other machines say tells more"
        return TrainingError(f"{process_name} lost its connection to another one; {hint}; {GOES_ON}")
    last = (log.read_text(errors="replace").strip().splitlines() or ["nothing"])[-1]
    return TrainingError(f"the training's processes ended with status {status}; {log} says: {last}; {GOES_ON}")


def _describe_kill(process_name: str, number: int, log: Path) -> TrainingError:
    advice = f"{log} may say why"
    if number == signal.SIGKILL:
        advice = (
            "mostly that is the system, out of memory: lower training.processes, or halve training.tokens_per_batch "
            "and double training.accumulation"
        )
    return TrainingError(f"{process_name} was ended by {signal.Signals(number).name}; {advice}; {GOES_ON}")
