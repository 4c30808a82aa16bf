"""From inputs to predictions. A copy of this file travels in every model bundle: it imports nothing of Evertune but its
neighbour `batching`, relatively, and the objective that it is given."""

import contextlib
import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .batching import by_length


def run(
    model: Any,
    objective: Any,
    examples: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    conventions: Mapping[str, Any],
    *,
    pad_id: int,
    budget: int,
    precision: str,
) -> tuple[list[dict[str, Any]], float]:
    """Predictions in the order of `examples`, and the loss summed over them (0.0 where they carry no labels).

    Args:
        model: a torch module that gives `.logits`.
        objective: an objective's module.
        names: label of each output.
        conventions: of the train targets, as the objective found them.
        budget: tokens of a batch, padding counted.
        precision: `bf16` or `fp32`.
    """
    import torch

    device = next(model.parameters()).device
    results: list[Any] = [None] * len(examples)
    total = 0.0
    was_training = model.training
    model.eval()
    with torch.inference_mode(), _autocast(device.type, precision):
        for indices in by_length([len(one["input_ids"]) for one in examples], budget):
            part = [examples[index] for index in indices]
            batch = {key: value.to(device) for key, value in objective.collate(part, pad_id).items()}
            labels = batch.pop("labels", None)
            logits = model(**batch).logits
            if labels is not None:
                total += float(objective.loss(logits, labels))
            for index, prediction in zip(indices, objective.decode(logits, part, names, conventions), strict=True):
                results[index] = prediction
    model.train(was_training)
    return results, total


@contextlib.contextmanager
def _autocast(device: str, precision: str) -> Iterator[None]:
    import torch

    with torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16"):
        yield


class Predictor:
    """A model bundle, ready to predict.

    Args:
        folder: the bundle.
        precision: `bf16` or `fp32`; by default what the bundle was evaluated in.
    Raises:
        OSError: the folder holds no bundle.
    """

    def __init__(self, folder: str | Path, precision: str | None = None) -> None:
        import torch
        from transformers import AutoTokenizer

        folder = Path(folder)
        self.card = json.loads((folder / "evertune.json").read_text(encoding="utf-8"))
        self.objective = importlib.import_module(f"{__name__.rpartition('.')[0]}.objective")
        self.options = self.objective.Options(**self.card["options"])
        self.tokenizer = AutoTokenizer.from_pretrained(folder / "model")
        self.model = self.objective.load(folder / "model").eval()
        self.model.to("cuda" if torch.cuda.is_available() else "cpu")
        self.names = [self.model.config.id2label[index] for index in range(self.model.config.num_labels)]
        self.precision = precision or self.card["precision"]
        if self.precision == "bf16":
            self._prepare_for_bf16()

    def _prepare_for_bf16(self) -> None:
        """Cast linear weights once, to the bit as autocast does, which casts them every time under `inference_mode`."""
        import torch

        for module in self.model.modules():
            if type(module) is torch.nn.Linear:
                module.to(torch.bfloat16)
        if self.model.device.type == "cpu":
            # There the flash kernel takes up to twice the time of plain products, at every length tried (8 to 128).
            self.model.set_attn_implementation("eager")

    def predict(self, inputs: Sequence[Any]) -> list[dict[str, Any]]:
        """One prediction for each input, in order."""
        return self.answer(self.encode(inputs))

    def encode(self, inputs: Sequence[Any]) -> list[dict[str, Any]]:
        """What `answer` takes; any thread may encode the next inputs while the model is at work."""
        if not inputs:
            return []  # a tokenizer stumbles over none
        encoded = self.objective.encode(inputs, self.tokenizer, self.options)
        rows = (dict(zip(encoded, values, strict=True)) for values in zip(*encoded.values(), strict=True))
        return [self.objective.example(row, None, {}) for row in rows]

    def answer(self, examples: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """One prediction for each encoded input, in order."""
        predictions, _ = run(
            self.model, self.objective, examples, self.names, self.card.get("conventions", {}),  # none in older cards
            pad_id=self.tokenizer.pad_token_id, budget=self.card["tokens_per_batch"], precision=self.precision,
        )  # fmt: skip
        return predictions
