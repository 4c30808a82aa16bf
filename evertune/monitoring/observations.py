"""What a model observes in rows, for the two-sample tests: lengths, tokens, languages, hidden states, predictions."""

import functools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evertune.config import Recipe
from evertune.data import label_names
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
    """Return the observations of rows; of many rows, a random sample.

    Args:
        predictor: of a bundle.
        recipe: has today's names of the labels, which an older model does not know.
        targets: labels, under today's names; None if they are not known.
        groups, kinds: (rows,) see `two_sample.Sample`.
        seed: of the random sample.
    Raises:
        TrainingError: the model does not predict.
    """
    indices = list(range(len(inputs)))
    if len(indices) > MOST:
        indices = sorted(np.random.default_rng(seed).choice(len(inputs), MOST, replace=False).tolist())
    inputs = [inputs[index] for index in indices]
    examples = predictor.encode(inputs)
    objective = load_objective(predictor.card["objective"])  # the predictor's own may be of any age
    groups, kinds = (None if column is None else np.asarray(column)[indices] for column in (groups, kinds))
    sample = Sample(embeddings=_compute_states(predictor, objective, examples), groups=groups, kinds=kinds)
    if not objective.shows_pictures:  # images have no words
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
    wrong = None
    if targets is not None:
        wrong = _mark_wrong(objective, [targets[index] for index in indices], predictions)
    return replace(
        sample,
        predicted=np.array([label for label, _ in answers]),
        scores=np.array([score for _, score in answers]),
        wrong=wrong,
    )


def identify_languages(inputs: Iterable[str | Sequence[str]]) -> NDArray[np.str_]:
    """Return the ISO 639 code of each text's language, (rows,).

    Naive Bayes over byte sequences of 141 languages (Lui & Baldwin 2012, langid.py). Of short texts a few percent get a
    wrong code, on both sides of a comparison alike.

    Args:
        inputs: texts, or lists of words.
    """
    classify = _load_identifier().classify
    texts = (text if isinstance(text, str) else " ".join(text) for text in inputs)
    return np.array([classify(text)[0] for text in texts], dtype=np.str_)


@functools.lru_cache(maxsize=1)
def _load_identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE)


def _take_first_texts(objective: Objective, inputs: Sequence[Any]) -> Sequence[Any]:
    """Return the first text of each input."""
    return inputs if len(objective.INPUTS) == 1 else [values[0] for values in inputs]


def _summarize_prediction(kinds: Mapping[str, str], prediction: dict[str, Any]) -> tuple[str, float]:
    """Return the label of a prediction and its score; of several labels the most common one and the mean score."""
    label = next(prediction[name] for name in kinds if kinds[name] in {"string", "strings"})
    score = next(prediction[name] for name in kinds if kinds[name] in {"number", "numbers"})
    if isinstance(label, str):
        return label, float(score)
    return Counter(label).most_common(1)[0][0] if label else "", float(np.mean(score)) if score else 1.0


def _mark_wrong(objective: Objective, targets: list[Any], predictions: list[dict[str, Any]]) -> NDArray[np.float64]:
    """Return an array (rows,): 1 if any label of the row is wrong, else 0."""
    pairs = (
        objective.pair_labels([target], [prediction]) for target, prediction in zip(targets, predictions, strict=True)
    )
    return np.array([float(true != guess) for true, guess in pairs])


def _compute_states(predictor: Any, objective: Objective, examples: Sequence[Any]) -> NDArray[Any] | None:
    """Return the hidden state of each row (rows, size); None for an ONNX graph, which returns logits only."""
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
