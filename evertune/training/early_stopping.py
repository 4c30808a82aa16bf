"""Early stopping: end a training when its validation metric no longer improves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from transformers import TrainerCallback

from evertune.runtime.files import read_json

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments


@dataclass(frozen=True)
class StoppingRule:
    """When a training without improvement ends.

    Args:
        metric: as the Trainer logs it, with the prefix `eval_`.
        falls: whether a lower metric is better.
        patience: number of successive validations without improvement that ends the training.
        min_delta: smallest change that counts as an improvement.
    """

    metric: str
    falls: bool
    patience: int
    min_delta: float

    def should_stop(self, history: Sequence[Mapping[str, float]]) -> bool:
        """Whether the validations in a Trainer's log end the training."""
        best = float("-inf")
        stagnant_validations = 0
        for entry in history:
            if self.metric not in entry:
                continue
            value = -entry[self.metric] if self.falls else entry[self.metric]
            stagnant_validations = 0 if value > best + self.min_delta else stagnant_validations + 1
            best = max(best, value)
        return stagnant_validations >= self.patience


class EarlyStop(TrainerCallback):
    """Applies a rule after each validation.

    The Trainer's own callback counts in memory and starts again after a crash, so that a resumed training would end at
    another step. The log is part of every checkpoint.
    """

    def __init__(self, rule: StoppingRule) -> None:
        self._rule = rule

    def on_evaluate(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **_: object
    ) -> None:
        control.should_training_stop |= self._rule.should_stop(state.log_history)


def find_stopping_step(checkpoint: str | None, rule: StoppingRule | None) -> int | None:
    """Return the step at which the training of this checkpoint had stopped early; None if it had not."""
    if checkpoint is None or rule is None:
        return None
    state = read_json(Path(checkpoint) / "trainer_state.json")
    return int(state["global_step"]) if rule.should_stop(state["log_history"]) else None
