"""The messages of a training's processes to the step that started them, and the error that they amount to."""

import json
import logging
import os
import signal
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from evertune import errors
from evertune.errors import TrainingError

if TYPE_CHECKING:
    from evertune.training.finetune import TrainingFacts
    from evertune.training.progress import Log

GOES_ON = "run again: training resumes from the last checkpoint"


class Failure(TypedDict):
    """An error of a process.

    Args:
        rank: of the process.
        kind: name of its class.
        ours: whether it is one of `evertune.errors`.
        text: its message.
        lost: whether it only tells that another process is gone.
        errno: of its cause.
    """

    rank: int
    kind: str
    ours: bool
    text: str
    lost: bool
    errno: int | None


@dataclass
class Reports:
    """What the processes have reported.

    Args:
        done: facts about the finished training.
        failed: errors, each with its rank; see `describe_error`.
        ended: rank and exit status of the processes that failed, first failure first.
    """

    done: "TrainingFacts | None" = None
    failed: list[Failure] = field(default_factory=list)
    ended: list[tuple[int, int]] = field(default_factory=list)


def relay_messages(lines: Iterable[bytes], log: "Log") -> Reports:
    """Relay the processes' logs, metrics and output until the last of them has ended, and return their reports."""
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


def describe_error(error: Exception, rank: int) -> Failure:
    """Return an error ready for JSON: its class, its message, and the `errno` of its cause."""
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
    """Return the error that came first: when one process fails, the others fail because it is gone.

    Args:
        reports: of the processes.
        status: exit status of the launcher.
        log: file with the processes' standard error.
    """
    own_failures = [failure for failure in reports.failed if failure["ours"]]
    if own_failures:
        failure = own_failures[0]
        cause: Exception = getattr(errors, failure["kind"])(failure["text"])
        if failure["errno"]:
            cause.__cause__ = OSError(failure["errno"], os.strerror(failure["errno"]))
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
        hint = f"see {log} and the logs of the other machines"
        return TrainingError(f"{process_name} lost its connection to another process; {hint}; {GOES_ON}")
    last = (log.read_text(errors="replace").strip().splitlines() or ["nothing"])[-1]
    return TrainingError(f"the training's processes ended with status {status}; last line of {log}: {last}; {GOES_ON}")


def _describe_kill(process_name: str, number: int, log: Path) -> TrainingError:
    advice = f"see {log}"
    if number == signal.SIGKILL:
        advice = (
            "the system is probably out of memory: lower training.processes, or halve training.tokens_per_batch and "
            "double training.accumulation"
        )
    return TrainingError(f"{process_name} was killed by {signal.Signals(number).name}; {advice}; {GOES_ON}")
