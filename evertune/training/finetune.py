"""The fine-tuning step: from token data set to model bundle, resumable at any moment."""

import contextlib
import logging
import shutil
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.config.methods import FULL
from evertune.errors import ConfigError, SettingsError, TrainingError
from evertune.models import base as base_models
from evertune.records import Candidate, Tokens, compute_digest, dump_settings, to_plain
from evertune.runtime import job_slots
from evertune.runtime.files import read_json, write_json
from evertune.runtime.home import Home
from evertune.runtime.precision import resolve_precision
from evertune.serving import bundle

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

    from evertune.config import Recipe
    from evertune.training.progress import Log

logger = logging.getLogger(__name__)
STEP_VERSION = 5  # raise it when the same input gives another model


def fingerprint_training(recipe: "Recipe", tokens: Tokens, champion: str | None, teacher: str | None = None) -> str:
    """What decides the weights: token data set, training section, base, and the libraries that do the arithmetic.

    Args:
        champion: digest of the champion's bundle where training starts from it, or learns only what came since.
        teacher: digest of the teacher where there is one.
    """
    fresh = recipe.data.fresh
    since = champion if (fresh.start_from, fresh.train_on) != ("base", "all") else None
    settings = dump_settings(recipe.training, *recipe.training.HOW)
    left_out: list[Any] = ["leak: exclude"] if recipe.data.split.leak == "exclude" else []
    left_out += [recipe.evaluation.window] if recipe.evaluation.window is not None else []
    left_out += [version("peft")] if recipe.training.method != FULL else []
    left_out += [teacher] if teacher is not None else []
    return compute_digest(
        STEP_VERSION,
        tokens.fingerprint,
        settings,
        recipe.objective,
        fresh,
        recipe.metric,
        since,
        base_models.fingerprint_base(recipe),
        recipe.evaluation.precision,
        version("torch"),
        version("transformers"),
        *left_out,
    )


def run_folder(home: Home, key: str, *, anew: bool = False) -> Path:
    """Where the run with this fingerprint keeps its checkpoints, bundle and reports.

    Args:
        anew: a folder of its own if the run was concluded before; an interrupted one is gone on with all the same.
    """
    folders = [home.runs / key[:16], *sorted(home.runs.glob(f"{key[:16]}-*"), key=lambda path: int(path.name[17:]))]
    if anew and (folders[-1] / "concluded").exists():
        return home.runs / f"{key[:16]}-{len(folders)}"
    return folders[-1]


def finetune_model(
    recipe: "Recipe",
    home: Home,
    tokens: Tokens,
    encoded: "datasets.Dataset",
    rows: "pa.Table",
    *,
    run_id: str,
    folder: Path,
    log: "Log",
    champion: Path | None = None,
    since: int = 0,
    teacher: Path | None = None,
) -> Candidate:
    """Train on the snapshot's train rows, stop early on its validation rows, and write the bundle.

    Args:
        encoded, rows: the snapshot's rows, tokenized and with their targets, in the same order.
        folder: this run's folder; a whole bundle or checkpoint found there is used.
        champion: bundle to start from where the recipe says so.
        since: rows of later batches are new to the champion.
        teacher: bundle or base model that the recipe's `distill` names.
    Raises:
        ConfigError: frozen parameters, token masking or length do not fit the base model.
        DataError: too little to learn from.
        TrainingError: out of memory, out of disk, loss not finite.
    """
    from evertune.training.distributed import processes

    candidate_facts = read_json(folder / "candidate.json")
    if candidate_facts is None or bundle.compute_digest(folder / "bundle") != candidate_facts["digest"]:
        with job_slots.hold_slot(recipe.name):
            start = time.perf_counter()
            if processes.requires_processes(recipe):
                with _explain_errors(recipe, folder):
                    facts = processes.train_in_processes(
                        recipe, home, tokens, rows, run_id, folder, log, champion, since
                    )
            else:
                facts = (
                    train_model(recipe, home, tokens, encoded, rows, run_id, folder, log, champion, since, teacher)
                    or {}
                )
            candidate_facts = {**facts, "seconds": time.perf_counter() - start}
        write_json(folder / "candidate.json", candidate_facts)
        (folder / "teacher.npy").unlink(missing_ok=True)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # several times the size of the bundle
    return Candidate(
        bundle=str(folder / "bundle"), run_id=run_id, run_folder=str(folder), tokens=tokens, **candidate_facts
    )


def train_model(
    recipe: "Recipe",
    home: Home,
    tokens: Tokens,
    encoded: "datasets.Dataset",
    rows: "pa.Table",
    run_id: str,
    folder: Path,
    log: "Log",
    champion: Path | None,
    since: int,
    teacher: Path | None = None,
) -> dict[str, Any] | None:
    """Train in this process, alone or as one of several; the first of them writes the bundle and returns the facts.

    Raises:
        EvertuneError: as `finetune`.
    """
    from evertune.training.distributed import process_group

    # Processes whose parent was killed end by themselves; the next training waits until they have.
    training_lock = home.lock("training") if process_group.get_rank() == 0 else contextlib.nullcontext()
    with training_lock, _explain_errors(recipe, folder):
        return _train_and_bundle(recipe, home, tokens, encoded, rows, run_id, folder, log, champion, since, teacher)


def _train_and_bundle(
    recipe: "Recipe",
    home: Home,
    tokens: Tokens,
    encoded: "datasets.Dataset",
    rows: "pa.Table",
    run_id: str,
    folder: Path,
    log: "Log",
    champion: Path | None,
    since: int,
    teacher: Path | None,
) -> dict[str, Any] | None:
    from evertune.tokenization import tokenize
    from evertune.training import initial_model, parameters, trainer
    from evertune.training.distributed import process_group
    from evertune.training.methods.adalora import RankSchedule
    from evertune.training.task import build_task

    labels = tokens.snapshot.labels
    settings = recipe.training
    memory = home.root / "machine.json"
    tokenizer = tokenize.load_tokenizer(recipe)
    task = build_task(recipe, encoded, rows, labels, tokenizer, since)
    start_model = initial_model.build_initial_model(
        recipe, task.objective, labels, champion if recipe.data.fresh.start_from == "champion" else None
    )
    model = start_model.model
    if settings.distill is not None:
        if teacher is None:
            raise ConfigError("training.distill: only `evertune run` and `search` find the teacher; take it out here")
        task = task.with_teacher(teacher, settings.distill, tokenizer, recipe.objective, folder / "teacher.npy")
    trainable_count = parameters.freeze_parameters(
        model, settings.freeze, settings.train_top_layers, settings.method == FULL
    )
    precision = resolve_precision(settings.precision, memory)
    total = model.num_parameters()
    counts = f"{trainable_count:,}", f"{total:,}", len(task.train), precision
    logger.info("training %s of %s parameters on %d rows in %s", *counts)
    callbacks = (
        [RankSchedule(start_model.peft, start_model.method)]
        if start_model.method and start_model.method["type"] == "adalora"
        else []
    )
    fitted = trainer.fit(model, task, settings, precision, folder / "checkpoints", log, memory, callbacks)
    if process_group.get_rank():
        return None
    model = start_model.finish_model(settings.needs_base)
    task.objective.finish_model(model, task.train, labels)
    serving = resolve_precision(recipe.evaluation.precision, memory)
    card = {**_build_card(recipe, tokens, serving, run_id), "conventions": task.conventions}
    digest = bundle.write_bundle(folder / "bundle", model, tokenizer, task.objective, card)
    return {
        "digest": digest,
        "steps": fitted.steps,
        "epochs": fitted.epochs,
        "train_loss": fitted.train_loss,
        "trained": trainable_count / total,
    }


def _build_card(recipe: "Recipe", tokens: Tokens, precision: str, run_id: str) -> dict[str, Any]:
    snapshot = tokens.snapshot
    return {
        "name": recipe.name,
        "objective": recipe.objective.type,
        "options": recipe.objective.model_dump(),
        "precision": precision,
        "tokens_per_batch": 2 * recipe.training.budget,
        "snapshot": {"version": snapshot.version, "fingerprint": snapshot.fingerprint, "batch": snapshot.batch},
        "run_id": run_id,
        **({"adapter": _describe_adapter(recipe)} if recipe.training.needs_base else {}),
    }


def _describe_adapter(recipe: "Recipe") -> dict[str, Any]:
    """What the bundle of an adapter must know of it and of its base."""
    return {
        "method": to_plain(recipe.training.method),
        "base": base_models.get_base_name(recipe),
        "fingerprint": base_models.fingerprint_base(recipe),
    }


@contextlib.contextmanager
def _explain_errors(recipe: "Recipe", folder: Path) -> Iterator[None]:
    """Lack of memory or disk as an error that a person can act on; torch has no one class for either."""
    from safetensors import SafetensorError

    from evertune.training.micro_batches import lacks_memory

    try:
        yield
    except (RuntimeError, MemoryError, OSError, SafetensorError) as error:
        text = str(error)
        if lacks_memory(error):
            raise SettingsError(
                f"out of memory with training.tokens_per_batch {recipe.training.tokens_per_batch}; halve it and double "
                "training.accumulation, which learns the same, or free some memory"
            ) from error
        if isinstance(error, (OSError, SafetensorError)) or "PytorchStreamWriter" in text:
            raise TrainingError(
                f"nothing can be written to {folder}: {text.splitlines()[0]}; free some space and run again: "
                "training goes on from the last checkpoint"
            ) from error
        raise
