"""The Trainer of Hugging Face, fed with Evertune's batches and judged by Evertune's metrics."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from evertune import inference
from evertune.batching import TokenBatches
from evertune.config import Training
from evertune.training import checkpoints
from evertune.training import model as models

logger = logging.getLogger(__name__)
Log = Callable[[Mapping[str, float], int], None]


@dataclass(frozen=True)
class Task:
    """What is learned: the objective's module, its labels in order, and the metric that decides.

    Args:
        train, validation: rows as the objective's `example` makes them; validation may be empty.
        targets: the validation rows' targets, for the metrics.
        weights: class weights, None for equal ones.
        pad_id: token id that fills a batch up.
    """

    objective: Any
    labels: Sequence[str]
    metric: str
    train: Sequence[Mapping[str, Any]]
    lengths: Sequence[int]
    validation: Sequence[Mapping[str, Any]]
    targets: Sequence[Any]
    weights: Any
    pad_id: int


@dataclass(frozen=True)
class Fit:
    """What a training did."""

    steps: int
    epochs: float
    seconds: float
    train_loss: float


def fit(model: Any, task: Task, settings: Training, precision: str, folder: Path, log: Log) -> Fit:
    """Train `model` in place, from the newest whole checkpoint in `folder` if there is one.

    Args:
        precision: `bf16` or `fp32`.
        folder: checkpoints are kept here.
        log: takes metrics and the optimiser step they belong to.
    Raises:
        torch.OutOfMemoryError, OSError: as they come; the caller says what to do.
    """
    batches = TokenBatches(task.lengths, settings.tokens_per_batch, settings.epochs, settings.seed)
    updates = math.ceil(len(batches) / settings.accumulation)
    arguments = _arguments(settings, precision, folder, updates, bool(task.validation), task)
    optimizer = models.optimizer(model, settings.learning_rate, settings.head_learning_rate, settings.weight_decay)
    trainer = TokenTrainer(
        model=model, args=arguments, train_dataset=task.train, eval_dataset=task.validation, optimizers=(optimizer, None),
        compute_loss_func=_loss(task, settings.label_smoothing),
        callbacks=[checkpoints.Seal(), Progress(log, settings.epochs)],
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    trainer.give(task, batches, precision)
    if settings.early_stopping and task.validation:
        stop = settings.early_stopping
        trainer.add_callback(EarlyStoppingCallback(stop.patience, stop.min_delta))
    result = trainer.train(resume_from_checkpoint=checkpoints.newest(folder))
    done = trainer.state.global_step
    epochs = settings.epochs * done / updates
    return Fit(done, epochs, result.metrics["train_runtime"], result.training_loss)


def _arguments(
    settings: Training, precision: str, folder: Path, updates: int, validate: bool, task: Task
) -> TrainingArguments:
    every = settings.checkpoint_steps or min(250, math.ceil(updates / settings.epochs))
    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=1,  # one pass over `TokenBatches`, which holds all epochs
        gradient_accumulation_steps=settings.accumulation,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.schedule,
        warmup_steps=math.ceil(settings.warmup * updates),
        max_grad_norm=settings.max_grad_norm,
        seed=settings.seed,
        bf16=precision == "bf16",
        use_cpu=not torch.cuda.is_available(),
        eval_strategy="steps" if validate else "no",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=validate,
        metric_for_best_model=task.metric,
        greater_is_better=task.metric not in task.objective.LOWER_IS_BETTER,
        logging_steps=max(1, updates // 50),
        disable_tqdm=True,
        report_to="none",
        remove_unused_columns=False,
    )


def _loss(task: Task, smoothing: float) -> Callable[..., Any]:
    def loss(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        # Divided by all rows or words of the optimiser step, so that the shape of its batches does not matter.
        weights = None if task.weights is None else task.weights.to(labels.device)
        total = task.objective.loss(outputs.logits, labels, weights, smoothing)
        return total / (num_items_in_batch if num_items_in_batch is not None else (labels != -100).sum())

    return loss


class TokenTrainer(Trainer):
    """Trainer's documented hooks for data and evaluation; all else is its own."""

    def give(self, task: Task, batches: TokenBatches, precision: str) -> None:
        """Say what to train on."""
        self._task, self._batches, self._precision = task, batches, precision

    def get_train_dataloader(self) -> DataLoader:
        """Batches of the whole training, in their fixed order."""
        task = self._task
        return self.accelerator.prepare_data_loader(  # type: ignore[no-any-return]
            DataLoader(
                task.train,
                batch_sampler=self._batches,
                collate_fn=lambda part: task.objective.collate(part, task.pad_id),
            )
        )

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """The objective's metrics and the loss on the validation rows."""
        task = self._task
        predictions, loss = inference.run(
            self.model, task.objective, task.validation, task.labels,
            pad_id=task.pad_id, budget=2 * self._batches.budget, precision=self._precision,
        )  # fmt: skip
        sums = task.objective.statistics(task.targets, predictions, task.labels).sum(0, dtype="float64")
        values = {f"eval_{name}": float(value) for name, value in task.objective.metrics(sums, task.labels).items()}
        items = len(task.objective.label_values(task.targets))
        metrics = {"eval_loss": loss / items, **values}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


class Progress(TrainerCallback):
    """A bar with loss and rate on a terminal, log lines elsewhere, and metrics by step for the tracker.

    Metrics are handed on when a checkpoint is safe, not before: what a crash undoes was never logged, and none is logged twice.
    """

    def __init__(self, log: Log, epochs: float) -> None:
        self._log, self._epochs = log, epochs
        self._pending: list[tuple[dict[str, float], int]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        from tqdm.auto import tqdm

        self._bar = tqdm(
            total=state.max_steps, initial=state.global_step, unit="step", desc="  training", leave=False, disable=None
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bar.update(state.global_step - self._bar.n)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        epoch = self._epochs * state.global_step / max(1, state.max_steps)
        self._pending.append(({name: value for name, value in logs.items() if name != "epoch"}, state.global_step))
        if "loss" in logs:
            self._bar.set_postfix(epoch=f"{epoch:.2f}", loss=f"{logs['loss']:.3f}", rate=f"{logs['learning_rate']:.1e}")
            self._last = logs["loss"]
        if "eval_loss" in logs:
            metric = args.metric_for_best_model
            logger.info(
                "step %d of %d, epoch %.1f: validation loss %.4f, %s %.4f",
                state.global_step, state.max_steps, epoch, logs["eval_loss"], metric, logs[f"eval_{metric}"],
            )  # fmt: skip

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._flush()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bar.close()
        self._flush()

    def _flush(self) -> None:
        for values, step in self._pending:
            self._log(values, step)
        self._pending.clear()
