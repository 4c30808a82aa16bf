"""From inputs to predictions.

A copy of this file travels in every model bundle. It imports nothing of Evertune but its neighbour `batching`,
relatively, and the objective's file.
"""

import contextlib
import functools
import importlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .batching import by_length

IGNORED = -100  # a label that no loss looks at


class Answers(NamedTuple):
    """Predictions and their loss.

    Args:
        predictions: in the order of the examples.
        loss: summed over the examples' labels, 0.0 where they have none.
        items: number of labels.
    """

    predictions: list[dict[str, Any]]
    loss: float
    items: int


def run_model(
    model: Any,
    objective: Any,
    examples: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    conventions: Mapping[str, Any],
    *,
    pad_id: int,
    budget: int,
    precision: str,
) -> Answers:
    """Predict `examples`, in their order.

    Args:
        model: a torch module; where the objective has no `predict_batch`, one whose output has `.logits`.
        objective: an objective, or in a bundle its file.
        names: label of each output.
        conventions: what the objective found in the train targets.
        pad_id: id of the padding token.
        budget: tokens of a batch, padding included.
        precision: `bf16` or `fp32`.
    """
    import torch

    device = next(model.parameters()).device
    results: list[dict[str, Any]] = [{}] * len(examples)
    total = 0.0
    items = 0
    predict_batch = _get_optional(objective, "predict_batch") or functools.partial(_predict_by_logits, objective)
    was_training = model.training
    model.eval()
    with torch.inference_mode(), _enable_autocast(device.type, precision):
        for indices in by_length([len(example["input_ids"]) for example in examples], budget):
            batch_examples = [examples[index] for index in indices]
            batch = {key: value.to(device) for key, value in objective.collate(batch_examples, pad_id).items()}
            if "labels" in batch:
                items += int((batch["labels"] != IGNORED).sum())
            predictions, loss = predict_batch(model, batch, batch_examples, names, conventions)
            total += loss
            for index, prediction in zip(indices, predictions, strict=True):
                results[index] = prediction
    model.train(was_training)
    return Answers(results, total, items)


def _get_optional(objective: Any, name: str) -> Any:
    """An optional part of an objective, or None. In a bundle the objective is a bare file, without the defaults."""
    return getattr(objective, name, None)


def _predict_by_logits(
    objective: Any, model: Any, batch: dict[str, Any], examples: Any, names: Any, conventions: Any
) -> tuple[list[dict[str, Any]], float]:
    labels = batch.pop("labels", None)
    logits = model(**batch).logits
    loss = 0.0 if labels is None else float(objective.compute_loss(logits, labels))
    return objective.decode(logits, examples, names, conventions), loss


@contextlib.contextmanager
def _enable_autocast(device: str, precision: str) -> Iterator[None]:
    import torch

    with torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16"):
        yield


class Predictor:
    """A model bundle, ready to predict.

    Args:
        folder: the bundle.
        precision: `bf16` or `fp32`; by default the one that the bundle was evaluated in.
    Raises:
        OSError: the folder holds no bundle.
    """

    def __init__(self, folder: str | Path, precision: str | None = None) -> None:
        from transformers import AutoTokenizer

        folder = Path(folder)
        self.card = json.loads((folder / "evertune.json").read_text(encoding="utf-8"))
        self.objective = importlib.import_module(f"{__name__.rpartition('.')[0]}.objective")
        self.options = self.objective.Options(**self.card["options"])
        make_tokenizer = _get_optional(self.objective, "make_tokenizer")
        if make_tokenizer is not None:
            self.tokenizer = make_tokenizer(folder / "model", self.options)
        else:
            self.tokenizer = AutoTokenizer.from_pretrained(folder / "model", trust_remote_code=False)
        self.model = self._load_model(folder / "model")
        outputs = range(self.model.config.num_labels if self.objective.LABELED else 0)
        self.names = [self.model.config.id2label[index] for index in outputs]
        self.precision = precision or self.card["precision"]
        if self.precision == "bf16":
            self._prepare_for_bf16()

    def _load_model(self, folder: Path) -> Any:
        import torch

        if compression := self.card.get("compression"):
            compressed = importlib.import_module(f"{__name__.rpartition('.')[0]}.compressed")
            return compressed.load(self.objective, folder, compression["method"])
        model = self._load_with_adapter(folder) if "adapter" in self.card else self.objective.load_model(folder)
        return model.eval().to("cuda" if torch.cuda.is_available() else "cpu")

    def _load_with_adapter(self, folder: Path) -> Any:
        """Load a model whose adapter is not merged; it needs the very base that it was trained on."""
        from . import adapters, base_files

        adapter = self.card["adapter"]
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        names = config["id2label"] if self.objective.LABELED else {}
        labels = [names[str(number)] for number in range(len(names))]
        base = base_files.find_same_base(adapter["base"], adapter["fingerprint"])
        model = self.objective.build_model(base, labels, self.options)
        adapters.load(model, adapter["method"], folder)
        return model

    def _prepare_for_bf16(self) -> None:
        """Cast linear weights once, bit for bit as autocast does, which under `inference_mode` casts them every time.

        A weight that is also an embedding is left alone, as autocast leaves it.
        """
        import torch

        uses = Counter(id(parameter) for _, parameter in self.model.named_parameters(remove_duplicate=False))
        for module in self.model.modules():
            if type(module) is torch.nn.Linear and uses[id(module.weight)] == 1:
                module.to(torch.bfloat16)
        if self.model.device.type == "cpu":
            # On the CPU the flash kernel took up to twice the time of plain products, at every length tried (8 to 128).
            self.model.set_attn_implementation("eager")

    def predict(self, inputs: Sequence[Any]) -> list[dict[str, Any]]:
        """Predict each input, in order."""
        return self.answer(self.encode(inputs))

    def assess(self, inputs: Sequence[Any], targets: Sequence[Any]) -> list[dict[str, Any]]:
        """Predict as `predict` does, and add how likely the model finds the known targets."""
        return self.answer(self.encode(inputs, targets))

    def encode(self, inputs: Sequence[Any], targets: Sequence[Any] | None = None) -> list[dict[str, Any]]:
        """Encode inputs for `answer`. Any thread may encode the next inputs while the model is at work."""
        if not inputs:
            return []  # tokenizers fail on an empty list
        target_args = () if targets is None or not self.objective.ENCODES_TARGET else (targets,)
        encoded = self.objective.encode(inputs, self.tokenizer, self.options, *target_args)
        rows = (dict(zip(encoded, values, strict=True)) for values in zip(*encoded.values(), strict=True))
        row_targets = targets if targets is not None else [None] * len(inputs)
        ids = {name: index for index, name in enumerate(self.names)}
        return [self.objective.make_example(row, target, ids) for row, target in zip(rows, row_targets, strict=True)]

    def answer(self, examples: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Predict each encoded input, in order."""
        answers = run_model(
            self.model,
            self.objective,
            examples,
            self.names,
            self.card.get("conventions", {}),  # older cards have none
            pad_id=self.tokenizer.pad_token_id,
            budget=self.card["tokens_per_batch"],
            precision=self.precision,
        )
        return answers.predictions
