"""The fine-tuning step: from token data set to model bundle, resumable at any moment."""

import contextlib
import logging
import shutil
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, cast

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
    from evertune.runtime.context import RunContext
    from evertune.training.methods.adalora import RankOptions
    from evertune.training.progress import Log

logger = logging.getLogger(__name__)
STEP_VERSION = 5  # raise it when the same input gives another model


class TrainingFacts(TypedDict):
    """What a training tells about itself, in the words of `Candidate`."""

    digest: str
    steps: int
    epochs: float
    train_loss: float
    trained: float


class AdapterCard(TypedDict):
    """What the bundle of an adapter records about it and its base."""

    method: dict[str, object]
    base: str
    fingerprint: str


def fingerprint_training(recipe: "Recipe", tokens: Tokens, champion: str | None, teacher: str | None = None) -> str:
    """Return a digest of all that decides the weights: tokens, training section, base model, and libraries.

    Args:
        recipe: the model's recipe.
        tokens: the token data set.
        champion: digest of the champion's bundle, if training starts from it or learns only rows newer than it.
        teacher: digest of the teacher; None without one.
    """
    fresh = recipe.data.fresh
    since = champion if (fresh.start_from, fresh.train_on) != ("base", "all") else None
    settings = dump_settings(recipe.training, *recipe.training.HOW)
    # Only added where they differ from the default: runs of before these settings existed keep their digest.
    further: list[str | int] = []
    if recipe.data.split.leak == "exclude":
        further.append("leak: exclude")
    if recipe.evaluation.window is not None:
        further.append(recipe.evaluation.window)
    if recipe.training.method != FULL:
        further.append(version("peft"))
    if teacher is not None:
        further.append(teacher)
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
        *further,
    )


def run_folder(home: Home, key: str, *, anew: bool = False) -> Path:
    """Return the folder of checkpoints, bundle and reports of the run with this fingerprint.

    Args:
        home: of the recipe.
        key: the fingerprint.
        anew: return a new folder if the last run was concluded; an interrupted run is resumed all the same.
    """
    repeats = sorted(home.runs.glob(f"{key[:16]}-*"), key=lambda path: int(path.name[17:]))
    folders = [home.runs / key[:16], *repeats]
    if anew and (folders[-1] / "concluded").exists():
        return home.runs / f"{key[:16]}-{len(folders)}"
    return folders[-1]


def finetune_model(
    context: "RunContext",
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
        context: the recipe and the home of its model.
        tokens: the token data set.
        encoded: the snapshot's rows, tokenized.
        rows: the same rows in the same order, with their targets.
        run_id: of the run.
        folder: of the run; a complete bundle or checkpoint found there is used.
        log: takes metrics and the optimiser step that they belong to.
        champion: the champion's bundle, to start from if the recipe says so.
        since: rows of later batches are new to the champion.
        teacher: bundle or base model that the recipe's `distill` names.
    Raises:
        ConfigError: frozen parameters, token masking or length do not fit the base model.
        DataError: too few rows to learn from.
        TrainingError: out of memory, out of disk space, or the loss is not finite.
    """
    from evertune.training.distributed import processes

    candidate_facts = read_json(folder / "candidate.json")
    if candidate_facts is None or bundle.compute_digest(folder / "bundle") != candidate_facts["digest"]:
        with job_slots.hold_slot(context.recipe.name):
            start = time.perf_counter()
            if processes.requires_processes(context.recipe):
                with _explain_errors(context.recipe, folder):
                    facts = processes.train_in_processes(context, tokens, rows, run_id, folder, log, champion, since)
            else:
                outcome = train_model(context, tokens, encoded, rows, run_id, folder, log, champion, since, teacher)
                facts = cast(TrainingFacts, outcome or {})
            candidate_facts = {**facts, "seconds": time.perf_counter() - start}
        write_json(folder / "candidate.json", candidate_facts)
        (folder / "teacher.npy").unlink(missing_ok=True)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # several times the size of the bundle
    return Candidate(
        bundle=str(folder / "bundle"), run_id=run_id, run_folder=str(folder), tokens=tokens, **candidate_facts
    )


def train_model(
    context: "RunContext",
    tokens: Tokens,
    encoded: "datasets.Dataset",
    rows: "pa.Table",
    run_id: str,
    folder: Path,
    log: "Log",
    champion: Path | None,
    since: int,
    teacher: Path | None = None,
) -> TrainingFacts | None:
    """Train in this process, alone or as one of several; arguments as for `finetune_model`.

    Returns:
        Facts about the training; None in all processes but the first, which writes the bundle.

    Raises:
        EvertuneError: as `finetune_model`.
    """
    from evertune.training.distributed import process_group

    # Processes whose parent was killed end by themselves; the next training waits until they have ended.
    training_lock = context.home.lock("training") if process_group.get_rank() == 0 else contextlib.nullcontext()
    with training_lock, _explain_errors(context.recipe, folder):
        return _train_and_bundle(context, tokens, encoded, rows, run_id, folder, log, champion, since, teacher)


def _train_and_bundle(
    context: "RunContext",
    tokens: Tokens,
    encoded: "datasets.Dataset",
    rows: "pa.Table",
    run_id: str,
    folder: Path,
    log: "Log",
    champion: Path | None,
    since: int,
    teacher: Path | None,
) -> TrainingFacts | None:
    from evertune.tokenization import tokenize
    from evertune.training import initial_model, parameters, trainer
    from evertune.training.distributed import process_group
    from evertune.training.methods.adalora import RankSchedule
    from evertune.training.task import build_task

    labels = tokens.snapshot.labels
    settings = context.recipe.training
    memory = context.home.root / "machine.json"
    tokenizer = tokenize.load_tokenizer(context.recipe)
    task = build_task(context.recipe, encoded, rows, labels, tokenizer, since)
    start = champion if context.recipe.data.fresh.start_from == "champion" else None
    start_model = initial_model.build_initial_model(context.recipe, task.objective, labels, start)
    model = start_model.model
    if settings.distill is not None:
        if teacher is None:
            raise ConfigError("training.distill: only `evertune run` and `search` support a teacher; remove it here")
        task = task.with_teacher(teacher, settings.distill, tokenizer, context.recipe.objective, folder / "teacher.npy")
    trainable_count = parameters.freeze_parameters(
        model, settings.freeze, settings.train_top_layers, settings.method == FULL
    )
    precision = resolve_precision(settings.precision, memory)
    total = model.num_parameters()
    logger.info(
        "training %s of %s parameters on %d rows in %s",
        f"{trainable_count:,}",
        f"{total:,}",
        len(task.train),
        precision,
    )
    callbacks = []
    if start_model.method and start_model.method["type"] == "adalora":
        callbacks.append(RankSchedule(start_model.peft, cast("RankOptions", start_model.method)))
    fitted = trainer.fit(model, task, settings, precision, folder / "checkpoints", log, memory, callbacks)
    if process_group.get_rank():
        return None
    model = start_model.finish_model(settings.needs_base)
    task.objective.finish_model(model, task.train, labels)
    serving = resolve_precision(context.recipe.evaluation.precision, memory)
    card = {**_build_card(context.recipe, tokens, serving, run_id), "conventions": task.conventions}
    digest = bundle.write_bundle(folder / "bundle", model, tokenizer, task.objective, card)
    return {
        "digest": digest,
        "steps": fitted.steps,
        "epochs": fitted.epochs,
        "train_loss": fitted.train_loss,
        "trained": trainable_count / total,
    }


def _build_card(recipe: "Recipe", tokens: Tokens, precision: str, run_id: str) -> dict[str, object]:
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


def _describe_adapter(recipe: "Recipe") -> AdapterCard:
    return {
        "method": to_plain(recipe.training.method),
        "base": base_models.get_base_name(recipe),
        "fingerprint": base_models.fingerprint_base(recipe),
    }


@contextlib.contextmanager
def _explain_errors(recipe: "Recipe", folder: Path) -> Iterator[None]:
    """Turn a lack of memory or disk space into an error that a person can act on; torch has no class for either."""
    from safetensors import SafetensorError

    from evertune.training.micro_batches import lacks_memory

    try:
        yield
    except (RuntimeError, MemoryError, OSError, SafetensorError) as error:
        text = str(error)
        if lacks_memory(error):
            raise SettingsError(
                f"out of memory with training.tokens_per_batch {recipe.training.tokens_per_batch}; halve it and double "
                "training.accumulation, which gives the same model, or free some memory"
            ) from error
        if isinstance(error, (OSError, SafetensorError)) or "PytorchStreamWriter" in text:
            raise TrainingError(
                f"nothing can be written to {folder}: {text.splitlines()[0]}; free some space and run again: "
                "training resumes from the last checkpoint"
            ) from error
        raise
