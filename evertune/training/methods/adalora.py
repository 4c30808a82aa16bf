"""AdaLoRA's training schedule (Zhang et al. 2023): remove ranks step by step from the layers that need them least."""

from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import torch
from transformers import TrainerCallback

from evertune.training.distributed import process_group

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import TrainerControl, TrainerState, TrainingArguments

FILE = "ranks.pt"  # in a checkpoint: the library's state of each weight's importance
KEPT = ("ipt", "exp_avg_ipt", "exp_avg_unc")


class RankOptions(TypedDict):
    """What the schedule needs of the recipe's `training.method`."""

    warmup: float
    final: float
    orthogonal: float


class RankSchedule(TrainerCallback):
    """Informs `peft` of each step, adds its loss, and keeps its state in checkpoints.

    Args:
        peft: the `peft` model.
        method: `type` and options of the recipe.
    """

    def __init__(self, peft: "PeftModel", method: RankOptions) -> None:
        self._tuner = peft.base_model
        self._method = method
        (self._config,) = peft.peft_config.values()

    def on_train_begin(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **_: object
    ) -> None:
        self._config.total_step = state.max_steps
        self._config.tinit = int(self._method["warmup"] * state.max_steps)
        self._config.tfinal = int(self._method["final"] * state.max_steps)
        if state.global_step:
            state_of_ranks = torch.load(_ranks_file(args, state), weights_only=True, map_location=args.device)
            self._config.rank_pattern = state_of_ranks["rank_pattern"]
            for name in KEPT:
                setattr(self._tuner.rankallocator, name, state_of_ranks[name])

    def on_pre_optimizer_step(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **_: object
    ) -> None:
        """Add the gradient of the loss that keeps the factors of each update orthogonal (equation 4)."""
        weight = self._method["orthogonal"]
        terms = []
        for name, factor in self._tuner.model.named_parameters():
            rank = _factor_rank(name, factor)
            if not factor.requires_grad or rank is None:
                continue
            product = factor @ factor.T if ".lora_A." in name else factor.T @ factor
            terms.append(torch.linalg.norm(product - torch.eye(rank, device=factor.device)))
        if weight and terms:
            (weight * sum(terms) / len(terms)).backward()

    def on_optimizer_step(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **_: object
    ) -> None:
        self._tuner.update_and_allocate(state.global_step + 1)

    def on_save(self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **_: object) -> None:
        if process_group.get_rank() == 0:
            importance = {name: getattr(self._tuner.rankallocator, name) for name in KEPT}
            torch.save({**importance, "rank_pattern": self._config.rank_pattern}, _ranks_file(args, state))

    def on_train_end(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **_: object
    ) -> None:
        # The weights of the best validation are kept, whose ranks differ from the last ones.
        self._config.rank_pattern = None


def _factor_rank(name: str, factor: torch.Tensor) -> int | None:
    if ".lora_A." in name:
        return len(factor)
    return int(factor.shape[1]) if ".lora_B." in name else None


def _ranks_file(args: "TrainingArguments", state: "TrainerState") -> Path:
    return Path(args.output_dir) / f"checkpoint-{state.global_step}" / FILE
