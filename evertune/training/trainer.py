"""The Trainer of Hugging Face, fed with Evertune's batches and judged by Evertune's metrics."""

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader, Dataset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from evertune.config import Training
from evertune.config.losses import Distill
from evertune.objectives import coupled
from evertune.serving.portable import inference
from evertune.serving.portable.batching import TokenBatches
from evertune.training import checkpoints, kernels
from evertune.training import micro_batches as pieces
from evertune.training import parameters as models
from evertune.training.distillation import hidden_states as states
from evertune.training.distillation import teacher
from evertune.training.distributed import process_group as sharing
from evertune.training.early_stopping import EarlyStop, Rule, stopped_at
from evertune.training.methods import adversarial, losses, mixout, r_drop
from evertune.training.methods.ema import Average
from evertune.training.micro_batches import Pieces
from evertune.training.progress import Log, Progress, mean_loss

if TYPE_CHECKING:
    from evertune.training.methods.token_masking import Masking


@dataclass(frozen=True)
class Task:
    """What is learned: the objective's module, its labels in order, and the metric that decides.

    Args:
        conventions: of all train targets, for decoding.
        train, validation: rows as the objective's `example` makes them; validation may be empty.
        targets: the validation rows' targets, for the metrics.
        weights: class weights, None for equal ones.
        pad_id: token id that fills a batch up.
        vocabulary: sorted ids of all tokens that the model may see while it learns.
        masking: what hides tokens while the model learns, None for nothing.
        teacher: bundle or base model whose hidden states are learned too, None for none.
    """

    objective: Any
    labels: Sequence[str]
    conventions: Mapping[str, Any]
    metric: str
    train: Sequence[Mapping[str, Any]]
    lengths: Sequence[int]
    validation: Sequence[Mapping[str, Any]]
    targets: Sequence[Any]
    weights: Any
    pad_id: int
    vocabulary: Any
    masking: "Masking | None" = None
    teacher: Path | None = None

    def taught(self, place: Path, rule: Distill, tokenizer: Any, options: Any, file: Path) -> "Task":
        """The task with a teacher; see `teacher.answers` and `states.taught`.

        Args:
            options: the objective's.
            file: where the teacher's answers are kept.
        Raises:
            ConfigError: the teacher does not fit.
        """
        teacher.same_inputs(place, tokenizer, options)
        told = replace(self, teacher=place)
        if not rule.weight:
            return told
        said = teacher.answers(place, self.train, self.labels, options.type, self.pad_id, file)
        return replace(told, train=teacher.Taught(self.train, said))


@dataclass(frozen=True)
class Fit:
    """What a training did."""

    steps: int
    epochs: float
    train_loss: float


def fit(
    model: Any, task: Task, settings: Training, precision: str, folder: Path, log: Log, memory: Path,
    others: Sequence[TrainerCallback] = (),
) -> Fit:  # fmt: skip
    """Train `model` in place, from the newest whole checkpoint in `folder` if there is one.

    Args:
        precision: `bf16` or `fp32`.
        folder: checkpoints are kept here.
        log: takes metrics and the optimiser step they belong to; others: callbacks of the method.
        memory: JSON file in which this machine's measurements are remembered.
    Raises:
        TrainingError: the loss is not finite, or there is not memory for a single row.
        RuntimeError, OSError: out of memory or disk, as it comes; the caller says what to do.
    """
    parts = pieces.for_this_machine(model, settings, precision, memory, coupled(task.objective))
    settings = _whole(settings)
    kernel = kernels.accelerated(model, precision, task.vocabulary, settings.compile)
    learned = states.taught(model, task.teacher, settings.distill)
    with kernel as free, mixout.mixed(model, settings.mixout), learned as hidden:
        batches = TokenBatches(task.lengths, settings.budget, settings.epochs, settings.seed, padded=not free)
        updates = math.ceil(len(batches) / settings.accumulation)
        checkpoint, rule = sharing.told(lambda: checkpoints.newest(folder)), _rule(task, settings)
        if (stopped := stopped_at(checkpoint, rule)) is not None:
            batches.cut(stopped * settings.accumulation)
        average = None if settings.ema is None else Average(model, settings.ema, checkpoint)
        trainer = TokenTrainer(
            model=model, args=_arguments(settings, precision, folder, updates, task), train_dataset=task.train,
            eval_dataset=task.validation, optimizers=(_optimizer(model, settings), None),
            compute_loss_func=_loss(task, settings),
            callbacks=[*others, *filter(None, [average]), checkpoints.Seal(), Progress(log, settings.epochs),
                       sharing.OwnDraws(settings.seed), *([] if rule is None else [EarlyStop(rule)])],
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        trainer.give(task, batches, precision, parts, settings, average, hidden)
        trainer.train(resume_from_checkpoint=checkpoint)
        if average is not None:
            average.take(trainer.state.best_model_checkpoint)
    done = trainer.state.global_step
    return Fit(done, settings.epochs * done / updates, mean_loss(trainer.state.log_history))


def _optimizer(model: Any, settings: Training) -> Any:
    rates = settings.learning_rate, settings.head_learning_rate, settings.weight_decay, settings.layer_decay
    return models.optimizer(model, *rates)


def _whole(settings: Training) -> Training:
    """With `tokens_per_batch: auto` a batch is all that an optimiser step learns from, and cut into pieces."""
    if settings.tokens_per_batch != "auto":
        return settings
    whole = {"tokens_per_batch": settings.budget * settings.accumulation, "accumulation": 1}
    return settings.model_copy(update=whole)


def _rule(task: Task, settings: Training) -> Rule | None:
    stop = settings.early_stopping
    if stop is None or not task.validation:
        return None
    falls = task.metric in task.objective.LOWER_IS_BETTER
    return Rule(f"eval_{task.metric}", falls, stop.patience, stop.min_delta)


def _arguments(settings: Training, precision: str, folder: Path, updates: int, task: Task) -> TrainingArguments:
    validate = bool(task.validation)
    every = settings.checkpoint_steps or min(250, math.ceil(updates / settings.epochs))
    made = TrainingArguments(
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
        logging_nan_inf_filter=False,  # it would log the mean of the steps before instead, and train on in silence
        disable_tqdm=True,
        report_to="none",
        remove_unused_columns=False,
    )
    made._n_gpu = min(1, made.n_gpu)  # several are for `training.processes`; the Trainer would take nn.DataParallel
    return made


def _loss(task: Task, settings: Training) -> Callable[..., Any]:
    cost = losses.loss_of(task.objective, task.weights, settings)

    def loss(outputs: Any, labels: Any, num_items_in_batch: Any) -> Any:
        # Divided by all rows or words of the optimiser step, so that the shape of its batches does not matter.
        # A step may hold no word that the model sees, such as a sentence of one zero-width space: 0, not 0/0.
        return cost(outputs.logits, labels) / max(int(num_items_in_batch), 1)

    return loss


class TokenTrainer(Trainer):
    """Trainer's documented hooks for data and evaluation; all else is its own."""

    control: Any

    def give(
        self, task: Task, batches: TokenBatches, precision: str, parts: Pieces, settings: Training,
        average: Average | None, hidden: states.States | None,
    ) -> None:  # fmt: skip
        """Say what to train on, and how."""
        self._task, self._batches, self._precision, self._pieces = task, batches, precision, parts
        self._settings, self._average, self._hidden, self._tokens = settings, average, hidden, 0.0

    def get_train_dataloader(self) -> "DataLoader[Any]":
        """Batches of the whole training, in their fixed order."""
        task = self._task
        loader: DataLoader[Any] = DataLoader(
            cast("Dataset[Any]", task.train),  # any sequence will do, but torch has no type for that
            batch_sampler=self._batches,
            collate_fn=sharing.dealt(lambda part: teacher.collated(task.objective.collate(part, task.pad_id), part)),
        )
        # Not the accelerator's own: it would give each process batches of its own, and other ones to each step.
        prepared: DataLoader[Any] = prepare_data_loader(
            loader, self.args.device, num_processes=1, process_index=0, put_on_device=True
        )
        return prepared

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """The batches of an optimiser step; real tokens for each item of its loss are counted."""
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self._hidden is not None:
            tokens = sum(int(one["attention_mask"].sum()) for one in batches)
            self._tokens = tokens / max(int(items), 1)
        return batches, items

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Any:
        """One batch forward and back."""
        # Tokens are hidden here, not in `collate`: batches are collated ahead of their step, and a resumed training
        # puts torch's generator back to where it stood between two steps.
        if self._task.masking is not None:
            inputs = {**inputs, "input_ids": self._task.masking.hide(inputs["input_ids"])}
        return self._pieces.run(inputs, self._learning(model, num_items_in_batch), model)

    def _learning(self, model: Any, items: Any) -> pieces.Compute:
        """Forward and back of a piece, as the recipe has it."""
        whole, rule, twice = super().training_step, self._settings.adversarial, self._settings.r_drop

        def learn(batch: pieces.Batch, parts: int = 1) -> Any:
            return whole(model, dict(batch), items * parts)

        def loss(batch: pieces.Batch) -> Any:
            return self.compute_loss(model, self._prepare_inputs(dict(batch)), num_items_in_batch=items)

        def harder(batch: pieces.Batch) -> Any:
            batch = batch if twice is None else r_drop.doubled(batch)
            return learn(batch) if rule is None else adversarial.learned(rule, model, learn, loss, batch)

        return harder

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:  # fmt: skip
        """The loss of a piece: that of its labels, and what the teacher adds."""
        said, rule = inputs.pop("teacher", None), self._settings.distill
        if rule is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        with contextlib.nullcontext() if self._hidden is None else self._hidden.watched():
            loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        passes = 1 if self._settings.r_drop is None else 2  # over the same rows
        if said is not None:
            apart = teacher.distance(outputs.logits, said, rule.temperature) / max(int(num_items_in_batch), 1)
            loss = (1 - rule.weight) * loss + rule.weight * apart / passes
        if self._hidden is not None:
            tokens = self._tokens * int(num_items_in_batch)  # an adversary divides all by raising the items
            loss = loss + rule.hidden * self._hidden.apart() / (passes * max(tokens, 1))
        return (loss, outputs) if return_outputs else loss

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """The objective's metrics and the loss on the validation rows."""
        task = self._task
        mine = sharing.own(task.validation)
        with self._average.in_place() if self._average else contextlib.nullcontext():
            found = inference.run(
                self.model, task.objective, [task.validation[place] for place in mine], task.labels, task.conventions,
                pad_id=task.pad_id, budget=2 * self._batches.budget, precision=self._precision,
            )  # fmt: skip
        targets = [task.targets[place] for place in mine]
        counted = task.objective.statistics(targets, found.predictions, task.labels).sum(0, dtype="float64")
        shares = sharing.together((counted, found.loss, found.items))
        sums, loss, items = (sum(parts) for parts in zip(*shares, strict=True))
        values = {f"eval_{name}": float(value) for name, value in task.objective.metrics(sums, task.labels).items()}
        metrics = {"eval_loss": loss / max(1, items), **values}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics
