"""A score of each test row by each model, from one pass of the model over the rows: what the gate weighs.

The model's logits are heard at its output, since a bundle's own code returns the likeliest answer alone.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from evertune.objectives import Input, Objective
from evertune.objectives.shared.proper_scores import RowScores

logger = logging.getLogger(__name__)


def predict_with_scores(
    objective: Objective,
    predictor: Any,
    inputs: Sequence[Input],
    targets: Sequence[Any],
    new_names: Mapping[str, str],
    classes: int,
) -> tuple[list[dict[str, Any]], RowScores | None]:
    """Return the model's predictions, and its scores; None where only the metric of the predictions is known.

    Args:
        objective: the recipe's, whose code scores the logits of a bundle of any age.
        predictor: the bundle's `Predictor`.
        inputs: of the rows.
        targets: of the rows.
        new_names: old label -> new label, for a model from before a label was renamed.
        classes: number of classes of both models that are compared.
    """
    known_targets = targets if objective.ASSESSED else None
    can_listen = objective.score_outputs is not None and hasattr(predictor, "encode")
    if not can_listen:
        predictions = predictor.assess(inputs, targets) if objective.ASSESSED else predictor.predict(inputs)
        if objective.score_predictions is None:
            return predictions, None
        return predictions, _score(lambda: objective.score_predictions(targets, predictions))
    examples = predictor.encode(inputs, known_targets)
    names = [new_names.get(name, name) for name in predictor.names]
    listener = _Listener(objective, predictor.objective, examples, targets, names, classes)
    with listener.listen(predictor):
        predictions = predictor.answer(examples)
    return predictions, listener.collect_scores()


def _score(compute: Any) -> RowScores | None:
    """Return the scores, or None with a warning: an older bundle's predictions may lack what they are made from."""
    try:
        scores: RowScores = compute()
    except (KeyError, TypeError) as error:
        logger.warning("evaluate: rows have no scores, only metrics: %s: %s", type(error).__name__, error)
        return None
    return scores


class _Listener:
    """Stands in for a bundle's objective while it predicts, and scores the logits of each batch.

    Args:
        objective: the recipe's.
        served: the bundle's own, which does the work.
        examples: all encoded rows.
        targets: of the rows.
        names: label of each output, under today's name.
        classes: number of classes of both models.
    """

    def __init__(
        self,
        objective: Objective,
        served: Any,
        examples: Sequence[Mapping[str, Any]],
        targets: Sequence[Any],
        names: Sequence[str],
        classes: int,
    ) -> None:
        self._objective = objective
        self._served = served
        self._targets = targets
        self._names = names
        self._classes = classes
        self._row_of_example = {id(example): row for row, example in enumerate(examples)}
        self._batch: Sequence[Mapping[str, Any]] = ()
        self._parts: list[tuple[list[int], RowScores]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._served, name)

    def collate(self, examples: Sequence[Mapping[str, Any]], pad_id: int) -> Any:
        """Collate as the bundle does, and remember whose logits come next."""
        self._batch = examples
        return self._served.collate(examples, pad_id)

    @contextlib.contextmanager
    def listen(self, predictor: Any) -> Iterator[None]:
        """Take the place of the predictor's objective, and hear the outputs of its model."""
        handle = predictor.model.register_forward_hook(self._hear)
        predictor.objective = self
        try:
            yield
        finally:
            predictor.objective = self._served
            handle.remove()

    def _hear(self, _model: Any, _args: Any, output: Any) -> None:
        assert self._objective.score_outputs is not None
        rows = [self._row_of_example[id(example)] for example in self._batch]
        targets = [self._targets[row] for row in rows]
        scores = self._objective.score_outputs(output.logits, self._batch, targets, self._names, self._classes)
        self._parts.append((rows, scores))

    def collect_scores(self) -> RowScores | None:
        """Return the scores of all rows, in their order; None where some were not heard."""
        order = [row for rows, _ in self._parts for row in rows]
        if sorted(order) != list(range(len(self._targets))):
            return None
        positions = np.argsort(order)
        log, brier, sizes = (
            np.concatenate([getattr(scores, name) for _, scores in self._parts])[positions]
            for name in ("log", "brier", "sizes")
        )
        return RowScores(log, brier, sizes)
