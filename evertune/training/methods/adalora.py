"""AdaLoRA while it trains (Zhang et al. 2023): ranks are taken from layers that need them least, step by step."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from evertune.training.distributed import process_group

FILE = "ranks.pt"  # in a checkpoint: what the library remembers of each weight's importance
KEPT = ("ipt", "exp_avg_ipt", "exp_avg_unc")


class RankSchedule(TrainerCallback):
    """Tells the library of each step, adds its loss, and keeps its memory in checkpoints.

    Args:
        peft: the library's model.
        method: `type` and options of the recipe.
    """

    def __init__(self, peft: Any, method: Mapping[str, Any]) -> None:
        self._tuner = peft.base_model
        self._method = method
        (self._config,) = peft.peft_config.values()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._config.total_step = state.max_steps
        self._config.tinit = int(self._method["warmup"] * state.max_steps)
        self._config.tfinal = int(self._method["final"] * state.max_steps)
        if state.global_step:
            state_of_ranks = torch.load(_ranks_file(args, state), weights_only=True, map_location=args.device)
            self._config.rank_pattern = state_of_ranks["rank_pattern"]
            for name in KEPT:
                setattr(self._tuner.rankallocator, name, state_of_ranks[name])

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The gradient of the loss that keeps each change's factors orthogonal (their equation 4)."""
        weight = self._method["orthogonal"]
        factors = {
            name: parameter for name, parameter in self._tuner.model.named_parameters() if parameter.requires_grad
        }
        terms = [
            torch.linalg.norm(
                (factor @ factor.T if ".lora_A." in name else factor.T @ factor) - torch.eye(rank, device=factor.device)
            )
            for name, factor in factors.items()
            if (rank := _factor_rank(name, factor)) is not None
        ]
        if weight and terms:
            (weight * sum(terms) / len(terms)).backward()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._tuner.update_and_allocate(state.global_step + 1)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if process_group.get_rank() == 0:
            importance = {name: getattr(self._tuner.rankallocator, name) for name in KEPT}
            torch.save({**importance, "rank_pattern": self._config.rank_pattern}, _ranks_file(args, state))

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # The weights of the best validation are kept, not the last ones: theirs are other ranks than these.
        self._config.rank_pattern = None


def _factor_rank(name: str, factor: Any) -> int | None:
    if ".lora_A." in name:
        return len(factor)
    return int(factor.shape[1]) if ".lora_B." in name else None


def _ranks_file(args: Any, state: Any) -> Path:
    return Path(args.output_dir) / f"checkpoint-{state.global_step}" / FILE
