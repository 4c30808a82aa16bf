"""A moving average of the weights, which is validated and kept instead of the last weights."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import TrainerCallback

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

FILE = "average.safetensors"
RANKS = ".lora_E."  # in the name of AdaLoRA's singular values


class WeightAverage(TrainerCallback):
    """An exponential moving average of the trained parameters (Polyak & Juditsky 1992; Tarvainen & Valpola 2017).

    In the first steps its decay is `(1 + step) / (10 + step)` if that is smaller, so that a short training does not
    keep its initial weights. The average is part of every checkpoint.

    Args:
        model: being trained.
        decay: of the average.
        checkpoint: that the training resumes from; None for a new training.
    """

    def __init__(self, model: torch.nn.Module, decay: float, checkpoint: str | None) -> None:
        self._free = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self._mean = {name: parameter.detach().clone() for name, parameter in self._free.items()}
        self._decay = decay
        if checkpoint is not None:
            self._read_average(checkpoint)

    def on_step_end(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **_: object
    ) -> None:
        decay = min(self._decay, (1 + state.global_step) / (10 + state.global_step))
        with torch.no_grad():
            for name, mean in self._mean.items():
                mean.lerp_(self._free[name], 1 - decay)
                if RANKS in name:
                    # A rank that AdaLoRA removed is 0 now; averaged with its past values, it would never be lost.
                    mean.masked_fill_(self._free[name] == 0, 0)

    def on_save(self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **_: object) -> None:
        from safetensors.torch import save_file

        save_file(self._mean, Path(args.output_dir) / f"checkpoint-{state.global_step}" / FILE)

    @contextlib.contextmanager
    def apply_average(self) -> Iterator[None]:
        """Give the model the averaged weights for the duration of the block."""
        self._swap_weights()
        try:
            yield
        finally:
            self._swap_weights()

    def _swap_weights(self) -> None:
        for name, parameter in self._free.items():
            parameter.data, self._mean[name] = self._mean[name], parameter.data

    def load_average(self, checkpoint: str | None) -> None:
        """Give the model the average of a checkpoint, or without one the current average."""
        if checkpoint is not None:
            self._read_average(checkpoint)
        with torch.no_grad():
            for name, parameter in self._free.items():
                parameter.copy_(self._mean[name])

    def _read_average(self, checkpoint: str) -> None:
        from safetensors.torch import load_file

        for name, mean in load_file(Path(checkpoint) / FILE).items():
            self._mean[name].copy_(mean)
