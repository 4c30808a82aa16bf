"""When a training ends before its last step: the validation metric no longer improves."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from evertune.runtime.files import read_json


@dataclass(frozen=True)
class StoppingRule:
    """How long a training may go on without improvement.

    Args:
        metric: as the Trainer logs it, `eval_...`; falls: whether less of it is better.
        patience: validations in a row without improvement that end the training.
        min_delta: smallest change that is an improvement.
    """

    metric: str
    falls: bool
    patience: int
    min_delta: float

    def should_stop(self, history: Sequence[dict[str, Any]]) -> bool:
        """Whether the validations in a Trainer's log say stop."""
        best = float("-inf")
        stagnant_validations = 0
        for value in (entry[self.metric] for entry in history if self.metric in entry):
            value = -value if self.falls else value
            stagnant_validations = 0 if value > best + self.min_delta else stagnant_validations + 1
            best = max(best, value)
        return stagnant_validations >= self.patience


class EarlyStop(TrainerCallback):
    """Applies a rule after each validation.

    The Trainer's own callback counts in memory, and after a crash counts anew: a resumed training would end at another
    step. The log is part of every checkpoint.
    """

    def __init__(self, rule: StoppingRule) -> None:
        self._rule = rule

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_training_stop |= self._rule.should_stop(state.log_history)


def find_stopping_step(checkpoint: str | None, rule: StoppingRule | None) -> int | None:
    """The step at which the training that left this checkpoint had ended early; None where it had not."""
    if checkpoint is None or rule is None:
        return None
    state = read_json(Path(checkpoint) / "trainer_state.json")
    return int(state["global_step"]) if rule.should_stop(state["log_history"]) else None
