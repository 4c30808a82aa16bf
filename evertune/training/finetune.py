"""The fine-tuning step: from token data set to model bundle, resumable at any moment."""

import logging
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune import base_models, bundle
from evertune.errors import DataError, TrainingError
from evertune.home import Home, read_json, write_json
from evertune.machine import resolve_precision
from evertune.objectives import module
from evertune.records import Candidate, Tokens, digest

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

    from evertune.config import Recipe
    from evertune.training.loop import Log, Task

logger = logging.getLogger(__name__)
STEP_VERSION = 1  # raise it when the same input gives another model


def fingerprint(recipe: "Recipe", tokens: Tokens, champion: str | None) -> str:
    """What decides the weights: token data set, training section, base, and the libraries that do the arithmetic.

    Args:
        champion: digest of the champion's bundle where training starts from it, or learns only what came since.
    """
    fresh = recipe.data.fresh
    since = champion if (fresh.start_from, fresh.train_on) != ("base", "all") else None
    return digest(
        STEP_VERSION, tokens.fingerprint, recipe.training, recipe.objective, fresh, recipe.metric, since,
        base_models.fingerprint(recipe), recipe.evaluation.precision, version("torch"), version("transformers"),
    )  # fmt: skip


def run_folder(home: Home, key: str, *, anew: bool = False) -> Path:
    """Where the run with this fingerprint keeps its checkpoints, bundle and reports.

    Args:
        anew: a folder of its own if the run was concluded before; one that was interrupted is gone on with all the same.
    """
    folders = [home.runs / key[:16], *sorted(home.runs.glob(f"{key[:16]}-*"), key=lambda one: int(one.name[17:]))]
    if anew and (folders[-1] / "concluded").exists():
        return home.runs / f"{key[:16]}-{len(folders)}"
    return folders[-1]


def finetune(
    recipe: "Recipe", home: Home, tokens: Tokens, encoded: "datasets.Dataset", rows: "pa.Table",
    *, run_id: str, folder: Path, log: "Log", champion: Path | None = None, since: int = 0,
) -> Candidate:  # fmt: skip
    """Train on the snapshot's train rows, stop early on its validation rows, and write the bundle.

    Args:
        encoded, rows: the snapshot's rows, tokenized and with their targets, in the same order.
        folder: this run's folder; a whole bundle or checkpoint found there is used.
        champion: bundle to start from where the recipe says so.
        since: with `train_on: new`, rows of later batches only.
    Raises:
        DataError: too little to learn from.
        TrainingError: out of memory, out of disk, loss not finite.
    """
    done = read_json(folder / "candidate.json")
    if done is not None and bundle.digest(folder / "bundle") == done["digest"]:
        return _candidate(done, folder, run_id, tokens)
    from evertune import tokenization
    from evertune.training import loop
    from evertune.training import model as models

    objective, settings = module(recipe.objective.type), recipe.training
    precision = resolve_precision(settings.precision, home.root / "machine.json")
    tokenizer = tokenization.tokenizer(recipe)
    task = _task(recipe, encoded, rows, tokens.snapshot.labels, tokenizer.pad_token_id, since)
    start = time.perf_counter()
    place = (
        str(champion / "model")
        if champion and recipe.data.fresh.start_from == "champion"
        else base_models.locate(recipe)
    )
    model = models.build(objective, place, tokens.snapshot.labels, recipe.objective, settings.seed)
    free = models.freeze(model, settings.freeze, settings.train_top_layers)
    logger.info(
        "training %s of %s parameters on %d rows in %s",
        f"{free:,}",
        f"{model.num_parameters():,}",
        len(task.train),
        precision,
    )
    fitted = _fit(loop, model, task, settings, precision, folder / "checkpoints", log)
    card = {
        "name": recipe.name, "objective": recipe.objective.type, "options": recipe.objective.model_dump(),
        "precision": resolve_precision(recipe.evaluation.precision, home.root / "machine.json"),
        "tokens_per_batch": 2 * settings.tokens_per_batch,
        "snapshot": {"version": tokens.snapshot.version, "fingerprint": tokens.snapshot.fingerprint, "batch": tokens.snapshot.batch},
        "run_id": run_id,
    }  # fmt: skip
    code = bundle.write(folder / "bundle", model, tokenizer, objective, card)
    facts = {
        "digest": code, "steps": fitted.steps, "epochs": fitted.epochs, "train_loss": fitted.train_loss,
        "seconds": time.perf_counter() - start,
    }  # fmt: skip
    write_json(folder / "candidate.json", facts)
    return _candidate(facts, folder, run_id, tokens)


def _candidate(facts: dict[str, Any], folder: Path, run_id: str, tokens: Tokens) -> Candidate:
    return Candidate(bundle=str(folder / "bundle"), run_id=run_id, run_folder=str(folder), tokens=tokens, **facts)


def _fit(loop: Any, model: Any, task: "Task", settings: Any, precision: str, folder: Path, log: "Log") -> Any:
    import math

    import torch

    try:
        fitted = loop.fit(model, task, settings, precision, folder, log)
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"out of memory with training.tokens_per_batch {settings.tokens_per_batch}; halve it and double "
            "training.accumulation, which learns the same"
        ) from error
    if not math.isfinite(fitted.train_loss):
        raise TrainingError(
            f"the loss is {fitted.train_loss}; lower training.learning_rate (now {settings.learning_rate:g})"
        )
    return fitted


def _task(
    recipe: "Recipe", encoded: "datasets.Dataset", rows: "pa.Table", labels: tuple[str, ...], pad_id: int, since: int
) -> "Task":
    import numpy as np

    from evertune.training import model as models
    from evertune.training.loop import Task

    objective = module(recipe.objective.type)
    role = list(objective.COLUMNS)[1]
    splits = rows.column("split").to_numpy(zero_copy_only=False)
    learned = splits == "train"
    if recipe.data.fresh.train_on == "new":
        learned &= rows.column("batch").to_numpy() > since
    train, validation = np.flatnonzero(learned), np.flatnonzero(splits == "validation")
    targets = rows.column(role)
    learned_values = objective.label_values(targets.take(train).to_pylist())
    _check_labels(learned_values, labels, len(train))
    ids = {label: index for index, label in enumerate(labels)}
    examples = {
        name: _examples(objective, encoded.select(index), targets.take(index).to_pylist(), ids)
        for name, index in (("train", train), ("validation", validation))
    }
    weights = models.balanced_weights(learned_values, labels) if recipe.training.class_weights == "balanced" else None
    return Task(
        objective=objective, labels=labels, metric=recipe.metric, train=examples["train"],
        lengths=[len(one["input_ids"]) for one in examples["train"]], validation=examples["validation"],
        targets=targets.take(validation).to_pylist(), weights=weights, pad_id=pad_id,
    )  # fmt: skip


def _examples(
    objective: Any, encoded: "datasets.Dataset", targets: list[Any], ids: dict[str, int]
) -> list[dict[str, Any]]:
    return [objective.example(row, target, ids) for row, target in zip(encoded, targets, strict=True)]


def _check_labels(values: list[str], labels: tuple[str, ...], rows: int) -> None:
    counts = Counter(values)
    if not rows:
        raise DataError(
            "no rows to train on: all accepted rows are in other splits; lower data.split.test and data.split.validation"
        )
    if len(counts) < 2:
        only = next(iter(counts))
        raise DataError(
            f"the {rows} train rows have one label only, {only!r}: there is nothing to tell apart; add rows with other labels"
        )
    if missing := [label for label in labels if not counts[label]]:
        logger.warning("no train row has %s: the model cannot learn it", ", ".join(map(repr, missing)))
