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
from evertune.records import Candidate, Tokens, digest, plain, settled
from evertune.runtime import job_slots as jobs
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


def fingerprint(recipe: "Recipe", tokens: Tokens, champion: str | None, teacher: str | None = None) -> str:
    """What decides the weights: token data set, training section, base, and the libraries that do the arithmetic.

    Args:
        champion: digest of the champion's bundle where training starts from it, or learns only what came since.
        teacher: digest of the teacher where there is one.
    """
    fresh = recipe.data.fresh
    since = champion if (fresh.start_from, fresh.train_on) != ("base", "all") else None
    settings = settled(recipe.training, *recipe.training.HOW)
    left_out: list[Any] = ["leak: exclude"] if recipe.data.split.leak == "exclude" else []
    left_out += [recipe.evaluation.window] if recipe.evaluation.window is not None else []
    left_out += [version("peft")] if recipe.training.method != FULL else []
    left_out += [teacher] if teacher is not None else []
    return digest(
        STEP_VERSION, tokens.fingerprint, settings, recipe.objective, fresh, recipe.metric, since,
        base_models.fingerprint(recipe), recipe.evaluation.precision, version("torch"), version("transformers"),
        *left_out,
    )  # fmt: skip


def run_folder(home: Home, key: str, *, anew: bool = False) -> Path:
    """Where the run with this fingerprint keeps its checkpoints, bundle and reports.

    Args:
        anew: a folder of its own if the run was concluded before; an interrupted one is gone on with all the same.
    """
    folders = [home.runs / key[:16], *sorted(home.runs.glob(f"{key[:16]}-*"), key=lambda one: int(one.name[17:]))]
    if anew and (folders[-1] / "concluded").exists():
        return home.runs / f"{key[:16]}-{len(folders)}"
    return folders[-1]


def finetune(
    recipe: "Recipe", home: Home, tokens: Tokens, encoded: "datasets.Dataset", rows: "pa.Table",
    *, run_id: str, folder: Path, log: "Log", champion: Path | None = None, since: int = 0,
    teacher: Path | None = None,
) -> Candidate:  # fmt: skip
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

    done = read_json(folder / "candidate.json")
    if done is None or bundle.digest(folder / "bundle") != done["digest"]:
        with jobs.place(recipe.name):
            start = time.perf_counter()
            if processes.wanted(recipe):
                with _saying_what_to_do(recipe, folder):
                    facts = processes.train(recipe, home, tokens, rows, run_id, folder, log, champion, since)
            else:
                facts = train(recipe, home, tokens, encoded, rows, run_id, folder, log, champion, since, teacher) or {}
            done = {**facts, "seconds": time.perf_counter() - start}
        write_json(folder / "candidate.json", done)
        (folder / "teacher.npy").unlink(missing_ok=True)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # several times the size of the bundle
    return Candidate(bundle=str(folder / "bundle"), run_id=run_id, run_folder=str(folder), tokens=tokens, **done)


def train(
    recipe: "Recipe", home: Home, tokens: Tokens, encoded: "datasets.Dataset", rows: "pa.Table",
    run_id: str, folder: Path, log: "Log", champion: Path | None, since: int,
    teacher: Path | None = None,
) -> dict[str, Any] | None:  # fmt: skip
    """Train in this process, alone or as one of several; the first of them writes the bundle and returns the facts.

    Raises:
        EvertuneError: as `finetune`.
    """
    from evertune.training.distributed import process_group as sharing

    # Processes whose parent was killed end by themselves; the next training waits until they have.
    first = home.lock("training") if sharing.rank() == 0 else contextlib.nullcontext()
    with first, _saying_what_to_do(recipe, folder):
        return _train(recipe, home, tokens, encoded, rows, run_id, folder, log, champion, since, teacher)


def _train(
    recipe: "Recipe", home: Home, tokens: Tokens, encoded: "datasets.Dataset", rows: "pa.Table",
    run_id: str, folder: Path, log: "Log", champion: Path | None, since: int, teacher: Path | None,
) -> dict[str, Any] | None:  # fmt: skip
    from evertune.tokenization import tokenize as tokenization
    from evertune.training import initial_model as start
    from evertune.training import parameters as models
    from evertune.training import trainer as loop
    from evertune.training.distributed import process_group as sharing
    from evertune.training.methods.adalora import Ranks
    from evertune.training.task import task_of

    labels, settings, memory = tokens.snapshot.labels, recipe.training, home.root / "machine.json"
    tokenizer = tokenization.tokenizer(recipe)
    task = task_of(recipe, encoded, rows, labels, tokenizer, since)
    begun = start.begin(
        recipe, task.objective, labels, champion if recipe.data.fresh.start_from == "champion" else None
    )
    model = begun.model
    if settings.distill is not None:
        if teacher is None:
            raise ConfigError("training.distill: only `evertune run` and `search` find the teacher; take it out here")
        task = task.taught(teacher, settings.distill, tokenizer, recipe.objective, folder / "teacher.npy")
    free = models.freeze(model, settings.freeze, settings.train_top_layers, settings.method == FULL)
    precision = resolve_precision(settings.precision, memory)
    total = model.num_parameters()
    counts = f"{free:,}", f"{total:,}", len(task.train), precision
    logger.info("training %s of %s parameters on %d rows in %s", *counts)
    others = [Ranks(begun.peft, begun.method)] if begun.method and begun.method["type"] == "adalora" else []
    fitted = loop.fit(model, task, settings, precision, folder / "checkpoints", log, memory, others)
    if sharing.rank():
        return None
    model = begun.finished(settings.apart)
    if hasattr(task.objective, "finish"):
        task.objective.finish(model, task.train, labels)
    serving = resolve_precision(recipe.evaluation.precision, memory)
    card = {**_card(recipe, tokens, serving, run_id), "conventions": task.conventions}
    digest = bundle.write(folder / "bundle", model, tokenizer, task.objective, card)
    return {
        "digest": digest, "steps": fitted.steps, "epochs": fitted.epochs, "train_loss": fitted.train_loss,
        "trained": free / total,
    }  # fmt: skip


def _card(recipe: "Recipe", tokens: Tokens, precision: str, run_id: str) -> dict[str, Any]:
    snapshot = tokens.snapshot
    return {
        "name": recipe.name, "objective": recipe.objective.type, "options": recipe.objective.model_dump(),
        "precision": precision, "tokens_per_batch": 2 * recipe.training.budget,
        "snapshot": {"version": snapshot.version, "fingerprint": snapshot.fingerprint, "batch": snapshot.batch},
        "run_id": run_id, **({"adapter": _adapter(recipe)} if recipe.training.apart else {}),
    }  # fmt: skip


def _adapter(recipe: "Recipe") -> dict[str, Any]:
    """What the bundle of an adapter must know of it and of its base."""
    return {
        "method": plain(recipe.training.method), "base": base_models.name(recipe),
        "fingerprint": base_models.fingerprint(recipe),
    }  # fmt: skip


@contextlib.contextmanager
def _saying_what_to_do(recipe: "Recipe", folder: Path) -> Iterator[None]:
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
