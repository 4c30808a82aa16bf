"""The progress of a training: a bar, log lines, and metrics by step for the tracker."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from transformers import TrainerCallback

from evertune.errors import SettingsError

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

logger = logging.getLogger(__name__)
Log = Callable[[Mapping[str, float], int], None]


class Progress(TrainerCallback):
    """Shows a bar with loss and rate on a terminal, log lines elsewhere, and passes metrics by step to the tracker.

    Metrics are passed on when a checkpoint is safe, not before: what a crash undoes is never logged. A resumed training
    passes on again what its checkpoint holds; `log` must ignore repeats.
    """

    def __init__(self, log: Log, epochs: float) -> None:
        self._log = log
        self._epochs = epochs
        self._pending: list[tuple[dict[str, float], int]] = []

    def on_train_begin(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **_: object
    ) -> None:
        from tqdm.auto import tqdm

        self._bar = tqdm(
            total=state.max_steps, initial=state.global_step, unit="step", desc="  training", leave=False, disable=None
        )
        for entry in state.log_history:  # a crash may have happened between a checkpoint and its metrics
            if not entry.keys().isdisjoint({"loss", "eval_loss"}):
                self._pass_on(entry, entry["step"])

    def on_step_end(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **_: object
    ) -> None:
        self._bar.update(state.global_step - self._bar.n)
        # A checkpoint does not hold the loss since the last log line, so log before it is written.
        control.should_log |= control.should_save

    def on_log(
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",
        logs: dict[str, float],
        **_: object,
    ) -> None:
        if "loss" in logs:
            self._show_loss(args, state, logs)
        elif "eval_loss" in logs:
            self._log_validation(args, state, logs)
        else:
            return  # the Trainer's summary, which ignores the steps before a crash
        self._pending.append((dict(logs), state.global_step))

    def _show_loss(self, args: "TrainingArguments", state: "TrainerState", logs: dict[str, float]) -> None:
        if not math.isfinite(logs["loss"]):
            raise SettingsError(
                f"the loss is {logs['loss']} at step {state.global_step}; lower training.learning_rate "
                f"(now {args.learning_rate:g})"
            )
        epoch = self._current_epoch(state)
        self._bar.set_postfix(epoch=f"{epoch:.2f}", loss=f"{logs['loss']:.3f}", rate=f"{logs['learning_rate']:.1e}")

    def _log_validation(self, args: "TrainingArguments", state: "TrainerState", logs: dict[str, float]) -> None:
        metric = args.metric_for_best_model
        logger.info(
            "step %d of %d, epoch %.1f: validation loss %.4f, %s %.4f",
            state.global_step,
            state.max_steps,
            self._current_epoch(state),
            logs["eval_loss"],
            metric,
            logs[f"eval_{metric}"],
        )

    def _current_epoch(self, state: "TrainerState") -> float:
        return float(self._epochs * state.global_step / max(1, state.max_steps))

    def on_save(self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **_: object) -> None:
        for values, step in self._pending:
            self._pass_on(values, step)
        self._pending.clear()

    def _pass_on(self, logs: Mapping[str, float], step: int) -> None:
        self._log({name: value for name, value in logs.items() if name not in {"epoch", "step"}}, step)

    def on_train_end(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **_: object
    ) -> None:
        self._bar.close()


def mean_loss(history: Sequence[Mapping[str, float]]) -> float:
    """Return the mean loss over all steps in a Trainer's log, including those before a crash; 0.0 without any."""
    total = 0.0
    last_step: float = 0
    for entry in history:
        if "loss" in entry:
            total += entry["loss"] * (entry["step"] - last_step)
            last_step = entry["step"]
    return total / last_step if last_step else 0.0
