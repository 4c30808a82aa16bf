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
class Heard:
    """What the processes have said.

    Args:
        done: facts about the finished training.
        failed: errors, each with its rank; see `described`.
        ended: rank and exit status of those that failed, the first one first.
    """

    done: dict[str, Any] | None = None
    failed: list[dict[str, Any]] = field(default_factory=list)
    ended: list[tuple[int, int]] = field(default_factory=list)


def listen(lines: Iterable[bytes], log: "Log") -> Heard:
    """Pass on what the processes say, until the last of them is gone."""
    heard = Heard()
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
                heard.done = facts
            case {"failed": failure}:
                heard.failed.append(failure)
            case {"ended": ended}:
                heard.ended += [(rank, status) for rank, status in ended]
    return heard


def described(error: Exception, rank: int) -> dict[str, Any]:
    """An error as JSON: what it is, what it says, the system's number of the one behind it."""
    from torch.distributed import DistError

    cause, ours = error.__cause__, isinstance(error, errors.EvertuneError)
    return {
        "rank": rank, "kind": type(error).__name__, "ours": ours, "text": str(error)[:2000],
        "lost": not ours and (isinstance(error, DistError) or "gloo" in str(error)),
        "errno": cause.errno if isinstance(cause, OSError) else None,
    }  # fmt: skip


def error(heard: Heard, status: int, log: Path) -> Exception:
    """The error that came first: when one process fails, the others fail because it is gone.

    Args:
        status: of the launcher.
        log: what the processes wrote to standard error.
    """
    if ours := [one for one in heard.failed if one["ours"]]:
        made: Exception = getattr(errors, ours[0]["kind"])(ours[0]["text"])
        if number := ours[0]["errno"]:
            made.__cause__ = OSError(number, os.strerror(number))
        return made
    other = [one for one in heard.failed if not one["lost"]]
    # When one process fails the launcher ends the others by SIGTERM.
    signals = [(rank, -code) for rank, code in heard.ended if code < 0 and not (other and -code == signal.SIGTERM)]
    if signals:
        rank, number = min(signals, key=lambda one: one[1] == signal.SIGTERM)
        return _killed(f"process {rank} of the training", number, log)
    if status < 0:
        return _killed("the launcher of the training's processes", -status, log)
    if other:
        where = f"process {other[0]['rank']} of the training"
        return RuntimeError(f"{where}: {other[0]['kind']}: {other[0]['text']}; see {log}")
    if heard.failed:
        where = f"process {heard.failed[0]['rank']} of the training"
        more = f"{log} and what the other machines say tells more"
        return TrainingError(f"{where} lost its connection to another one; {more}; {GOES_ON}")
    last = (log.read_text(errors="replace").strip().splitlines() or ["nothing"])[-1]
    return TrainingError(f"the training's processes ended with status {status}; {log} says: {last}; {GOES_ON}")


def _killed(which: str, number: int, log: Path) -> TrainingError:
    why = f"{log} may say why"
    if number == signal.SIGKILL:
        why = (
            "mostly that is the system, out of memory: lower training.processes, or halve training.tokens_per_batch "
            "and double training.accumulation"
        )
    return TrainingError(f"{which} was ended by {signal.Signals(number).name}; {why}; {GOES_ON}")
