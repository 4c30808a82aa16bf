"""What a model sees in rows, as `drift` compares it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from evertune.config import Recipe
from evertune.data import label_names
from evertune.monitoring.languages import identify_languages
from evertune.objectives import Objective, load_objective
from evertune.serving.portable.batching import by_length
from evertune.statistics.two_sample import MOST, Sample


def observe_rows(
    predictor: Any,
    recipe: Recipe,
    inputs: Sequence[Any],
    targets: Sequence[Any] | None,
    groups: Any = None,
    kinds: Any = None,
    seed: int = 0,
) -> Sample:
    """Look at rows with a model; of many a draw, for they are not all compared.

    Args:
        predictor: of a bundle.
        recipe: says what the labels are called today, which an older model does not know.
        targets: what the model should say, under the names of today; None where nobody knows.
        groups, kinds: (rows,) see `drift.Rows`.
    """
    indices = list(range(len(inputs)))
    if len(indices) > MOST:
        indices = sorted(np.random.default_rng(seed).choice(len(inputs), MOST, replace=False).tolist())
    inputs = [inputs[index] for index in indices]
    examples = predictor.encode(inputs)
    objective = load_objective(predictor.card["objective"])  # the predictor's own may be of any age
    groups, kinds = (None if column is None else np.asarray(column)[indices] for column in (groups, kinds))
    sample = Sample(embeddings=_compute_states(predictor, objective, examples), groups=groups, kinds=kinds)
    if not objective.shows_pictures:  # which have no words
        sample = replace(
            sample,
            lengths=np.array([len(example["input_ids"]) for example in examples]),
            tokens=[np.asarray(example["input_ids"], dtype=np.int64) for example in examples],
            languages=identify_languages(_take_first_texts(objective, inputs)),
        )
    if not objective.LABELED:
        return sample
    predictions = label_names.rename_predictions(predictor.answer(examples), recipe)
    answers = [_summarize_prediction(predictor.objective.OUTPUTS, prediction) for prediction in predictions]
    return replace(
        sample,
        predicted=np.array([label for label, _ in answers]),
        scores=np.array([score for _, score in answers]),
        wrong=None if targets is None else _mark_wrong(objective, [targets[index] for index in indices], predictions),
    )


def _take_first_texts(objective: Objective, inputs: Sequence[Any]) -> Sequence[Any]:
    """The first text of each input."""
    return inputs if len(objective.INPUTS) == 1 else [values[0] for values in inputs]


def _summarize_prediction(kinds: Mapping[str, str], prediction: dict[str, Any]) -> tuple[str, float]:
    """The label of a prediction, of many the commonest, and how sure the model is, in the mean."""
    label = next(prediction[name] for name in kinds if kinds[name] in {"string", "strings"})
    score = next(prediction[name] for name in kinds if kinds[name] in {"number", "numbers"})
    if isinstance(label, str):
        return label, float(score)
    return Counter(label).most_common(1)[0][0] if label else "", float(np.mean(score)) if score else 1.0


def _mark_wrong(objective: Objective, targets: list[Any], predictions: list[dict[str, Any]]) -> Any:
    """(rows,) 1 where any label of a row is not the right one."""
    pairs = (
        objective.pair_labels([target], [prediction]) for target, prediction in zip(targets, predictions, strict=True)
    )
    return np.array([float(true != guess) for true, guess in pairs])


def _compute_states(predictor: Any, objective: Objective, examples: Sequence[Any]) -> Any:
    """(rows, size) what the model sees in each row; None of a graph that gives logits alone."""
    import torch

    if predictor.card.get("compression", {}).get("method", "").startswith("onnx"):
        return None
    model = predictor.model
    row_states = [np.zeros(0)] * len(examples)
    kind = torch.bfloat16 if predictor.precision == "bf16" else torch.float32
    with torch.inference_mode(), torch.autocast(model.device.type, dtype=kind, enabled=kind == torch.bfloat16):
        for indices in by_length(
            [len(example["input_ids"]) for example in examples], predictor.card["tokens_per_batch"]
        ):
            batch = predictor.objective.collate(
                [examples[index] for index in indices], predictor.tokenizer.pad_token_id
            )
            device_batch = {name: value.to(model.device) for name, value in batch.items()}
            states = objective.compute_states(model, device_batch).float().cpu().numpy()
            for index, state in zip(indices, states, strict=True):
                row_states[index] = state
    return np.stack(row_states) if row_states else np.zeros((0, 1))
