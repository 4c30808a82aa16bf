"""What a model sees in rows, as `drift` compares it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from evertune.config import Recipe
from evertune.data import label_names as relabel
from evertune.monitoring.languages import spoken
from evertune.objectives import module, shows_pictures
from evertune.serving.portable.batching import by_length
from evertune.statistics.two_sample import MOST, Rows


def observed(
    predictor: Any, recipe: Recipe, inputs: Sequence[Any], targets: Sequence[Any] | None, groups: Any = None,
    kinds: Any = None, seed: int = 0,
) -> Rows:  # fmt: skip
    """Look at rows with a model; of many a draw, for they are not all compared.

    Args:
        predictor: of a bundle.
        recipe: says what the labels are called today, which an older model does not know.
        targets: what the model should say, under the names of today; None where nobody knows.
        groups, kinds: (rows,) see `drift.Rows`.
    """
    places = list(range(len(inputs)))
    if len(places) > MOST:
        places = sorted(np.random.default_rng(seed).choice(len(inputs), MOST, replace=False).tolist())
    inputs = [inputs[place] for place in places]
    examples = predictor.encode(inputs)
    objective = module(predictor.card["objective"])  # the predictor's own may be of any age
    groups, kinds = (None if one is None else np.asarray(one)[places] for one in (groups, kinds))
    seen = Rows(embeddings=_states(predictor, examples), groups=groups, kinds=kinds)
    if not shows_pictures(objective):  # which have no words
        seen = replace(
            seen, lengths=np.array([len(one["input_ids"]) for one in examples]),
            tokens=[np.asarray(one["input_ids"], dtype=np.int64) for one in examples],
            languages=spoken(_texts(objective, inputs)),
        )  # fmt: skip
    if not objective.LABELED:
        return seen
    predictions = relabel.predictions(predictor.answer(examples), recipe)
    said = [_said(predictor.objective, one) for one in predictions]
    return replace(
        seen,
        predicted=np.array([label for label, _ in said]),
        scores=np.array([score for _, score in said]),
        wrong=None if targets is None else _wrong(predictor.objective, [targets[at] for at in places], predictions),
    )


def _texts(objective: Any, inputs: Sequence[Any]) -> Sequence[Any]:
    """The first text of each input."""
    return inputs if len(objective.INPUTS) == 1 else [one[0] for one in inputs]


def _said(objective: Any, prediction: dict[str, Any]) -> tuple[str, float]:
    """The label of a prediction, of many the commonest, and how sure the model is, in the mean."""
    kinds = objective.OUTPUTS
    label = next(prediction[name] for name in kinds if kinds[name] in {"string", "strings"})
    score = next(prediction[name] for name in kinds if kinds[name] in {"number", "numbers"})
    if isinstance(label, str):
        return label, float(score)
    return Counter(label).most_common(1)[0][0] if label else "", float(np.mean(score)) if score else 1.0


def _wrong(objective: Any, targets: list[Any], predictions: list[dict[str, Any]]) -> Any:
    """(rows,) 1 where any label of a row is not the right one."""
    pairs = (objective.pairs([target], [said]) for target, said in zip(targets, predictions, strict=True))
    return np.array([float(true != guess) for true, guess in pairs])


def _states(predictor: Any, examples: Sequence[Any]) -> Any:
    """(rows, size) what the model sees in each row; None of a graph that gives logits alone."""
    import torch

    if predictor.card.get("compression", {}).get("method", "").startswith("onnx"):
        return None
    model, found = predictor.model, [np.zeros(0)] * len(examples)
    kind = torch.bfloat16 if predictor.precision == "bf16" else torch.float32
    with torch.inference_mode(), torch.autocast(model.device.type, dtype=kind, enabled=kind == torch.bfloat16):
        for indices in by_length([len(one["input_ids"]) for one in examples], predictor.card["tokens_per_batch"]):
            part = predictor.objective.collate([examples[index] for index in indices], predictor.tokenizer.pad_token_id)
            given = {name: value.to(model.device) for name, value in part.items()}
            states = getattr(predictor.objective, "states", _means)(model, given).float().cpu().numpy()
            for index, mean in zip(indices, states, strict=True):
                found[index] = mean
    return np.stack(found) if found else np.zeros((0, 1))


def _means(model: Any, batch: dict[str, Any]) -> Any:
    """(rows, size) the mean of each row's token states."""
    given = {name: batch[name] for name in ("input_ids", "attention_mask")}
    reader = model.get_encoder() if model.config.is_encoder_decoder else model.base_model
    real = given["attention_mask"].unsqueeze(-1)
    return (reader(**given).last_hidden_state.float() * real).sum(1) / real.sum(1)
