"""The Hugging Face Trainer with Evertune's batches and metrics."""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader, Dataset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from evertune.config import Training
from evertune.config.losses import Distill
from evertune.objectives import Cell, Objective
from evertune.serving.portable import inference
from evertune.serving.portable.batching import TokenBatches
from evertune.training import checkpoints, kernels, micro_batches, parameters
from evertune.training.distillation import hidden_states, teacher
from evertune.training.distributed import process_group
from evertune.training.early_stopping import EarlyStop, StoppingRule, find_stopping_step
from evertune.training.methods import adversarial, losses, mixout, r_drop
from evertune.training.methods.ema import WeightAverage
from evertune.training.micro_batches import MicroBatches
from evertune.training.progress import Log, Progress, mean_loss

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerControl
    from transformers.utils import ModelOutput

    from evertune.objectives import Options
    from evertune.training.examples import Example
    from evertune.training.methods.token_masking import TokenMasking

Items = torch.Tensor | int  # rows or words of an optimiser step


@dataclass(frozen=True)
class Task:
    """What a model is trained on.

    Args:
        objective: its module.
        labels: in order.
        conventions: of all train targets, for decoding.
        metric: the metric that selects the best checkpoint.
        train: rows as the objective's `example` builds them.
        lengths: tokens of each train row.
        validation: rows like `train`; may be empty.
        targets: the validation rows' targets, for the metrics.
        weights: class weights; None for equal ones.
        pad_id: token id of padding.
        vocabulary: sorted ids of all tokens that the model may see in training.
        masking: hides tokens in training; None for no masking.
        teacher: bundle or base model whose hidden states are learned too; None without one.
    """

    objective: Objective
    labels: Sequence[str]
    conventions: Mapping[str, object]
    metric: str
    train: "Sequence[Example]"
    lengths: Sequence[int]
    validation: "Sequence[Example]"
    targets: Sequence[Cell]
    weights: torch.Tensor | None
    pad_id: int
    vocabulary: torch.Tensor
    masking: "TokenMasking | None" = None
    teacher: Path | None = None

    def with_teacher(
        self, teacher_path: Path, rule: Distill, tokenizer: "PreTrainedTokenizerBase", options: "Options", file: Path
    ) -> "Task":
        """Return the task with a teacher; see `compute_teacher_logits` and `attach_teacher`.

        Args:
            teacher_path: its bundle or base model.
            rule: the recipe's `distill`.
            tokenizer: of the student.
            options: of the objective.
            file: where the teacher's logits are kept.
        Raises:
            ConfigError: the teacher does not fit.
        """
        teacher.check_same_inputs(teacher_path, tokenizer, options)
        task_with_teacher = replace(self, teacher=teacher_path)
        if not rule.weight:
            return task_with_teacher
        teacher_logits = teacher.compute_teacher_logits(
            teacher_path, self.train, self.labels, options.type, self.pad_id, file
        )
        return replace(task_with_teacher, train=teacher.TaughtRows(self.train, teacher_logits))


@dataclass(frozen=True)
class Fit:
    """The result of a training."""

    steps: int
    epochs: float
    train_loss: float


def fit(
    model: "PreTrainedModel",
    task: Task,
    settings: Training,
    precision: str,
    folder: Path,
    log: Log,
    memory: Path,
    method_callbacks: Sequence[TrainerCallback] = (),
) -> Fit:
    """Train `model` in place, from the newest complete checkpoint in `folder` if there is one.

    Args:
        model: to train.
        task: what it is trained on.
        settings: the recipe's training section.
        precision: `bf16` or `fp32`.
        folder: of the checkpoints.
        log: takes metrics and the optimiser step that they belong to.
        memory: JSON file with this machine's measurements.
        method_callbacks: of the training method.
    Raises:
        TrainingError: the loss is not finite, or there is not enough memory for a single row.
        RuntimeError: out of memory or disk space, as torch raises it; the caller explains it.
        OSError: likewise.
    """
    batch_plan = micro_batches.plan_micro_batches(model, settings, precision, memory, task.objective.COUPLED)
    settings = _merge_accumulation(settings)
    kernel = kernels.accelerate_training(model, precision, task.vocabulary, settings.compile)
    teacher_states = hidden_states.attach_teacher(model, task.teacher, settings.distill)
    with kernel as is_unpadded, mixout.mix_weights(model, settings.mixout), teacher_states as hidden:
        batches = TokenBatches(task.lengths, settings.budget, settings.epochs, settings.seed, padded=not is_unpadded)
        updates = math.ceil(len(batches) / settings.accumulation)
        checkpoint = process_group.broadcast_from_rank0(lambda: checkpoints.find_newest(folder))
        rule = _stopping_rule(task, settings)
        stopping_step = find_stopping_step(checkpoint, rule)
        if stopping_step is not None:
            batches.stop_after(stopping_step * settings.accumulation)
        average = None if settings.ema is None else WeightAverage(model, settings.ema, checkpoint)
        trainer = TokenTrainer(
            model=model,
            args=_build_arguments(settings, precision, folder, updates, task),
            train_dataset=task.train,
            eval_dataset=task.validation,
            optimizers=(_build_optimizer(model, settings), None),
            compute_loss_func=_build_loss(task, settings),
            callbacks=[
                *method_callbacks,
                *filter(None, [average]),
                checkpoints.CheckpointSeal(),
                Progress(log, settings.epochs),
                process_group.OwnDraws(settings.seed),
                *([] if rule is None else [EarlyStop(rule)]),
            ],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.configure_training(task, batches, precision, batch_plan, settings, average, hidden)
        trainer.train(resume_from_checkpoint=checkpoint)
        if average is not None:
            average.load_average(trainer.state.best_model_checkpoint)
    steps = trainer.state.global_step
    return Fit(steps, settings.epochs * steps / updates, mean_loss(trainer.state.log_history))


def _build_optimizer(model: "PreTrainedModel", settings: Training) -> torch.optim.AdamW:
    return parameters.build_optimizer(
        model,
        rate=settings.learning_rate,
        head_rate=settings.head_learning_rate,
        decay=settings.weight_decay,
        layer_decay=settings.layer_decay,
    )


def _merge_accumulation(settings: Training) -> Training:
    """With `tokens_per_batch: auto`, make a batch of all tokens of an optimiser step; it is split into pieces later."""
    if settings.tokens_per_batch != "auto":
        return settings
    whole = {"tokens_per_batch": settings.budget * settings.accumulation, "accumulation": 1}
    return settings.model_copy(update=whole)


def _stopping_rule(task: Task, settings: Training) -> StoppingRule | None:
    stop = settings.early_stopping
    if stop is None or not task.validation:
        return None
    falls = task.metric in task.objective.LOWER_IS_BETTER
    return StoppingRule(f"eval_{task.metric}", falls, stop.patience, stop.min_delta)


def _build_arguments(settings: Training, precision: str, folder: Path, updates: int, task: Task) -> TrainingArguments:
    has_validation = bool(task.validation)
    interval = settings.checkpoint_steps or min(250, math.ceil(updates / settings.epochs))
    arguments = TrainingArguments(
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
        eval_strategy="steps" if has_validation else "no",
        eval_steps=interval,
        save_strategy="steps",
        save_steps=interval,
        save_total_limit=2,
        load_best_model_at_end=has_validation,
        metric_for_best_model=task.metric,
        greater_is_better=task.metric not in task.objective.LOWER_IS_BETTER,
        logging_steps=max(1, updates // 50),
        logging_nan_inf_filter=False,  # it would log the mean of earlier steps, and training would continue silently
        disable_tqdm=True,
        report_to="none",
        remove_unused_columns=False,
    )
    # Several GPUs are used by `training.processes`; with more than one, the Trainer would use nn.DataParallel.
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


def _build_loss(task: Task, settings: Training) -> "Callable[[ModelOutput, torch.Tensor, Items], torch.Tensor]":
    summed_loss = losses.build_loss(task.objective, task.weights, settings)

    def step_loss(outputs: "ModelOutput", labels: torch.Tensor, num_items_in_batch: Items) -> torch.Tensor:
        # Divided by all rows or words of the optimiser step, so that the shape of its batches does not matter. A step
        # may hold no word that the model sees, such as a sentence of one zero-width space: the loss is then 0, not 0/0.
        loss = summed_loss(outputs.logits, labels) / max(int(num_items_in_batch), 1)
        # A process without rows of its own takes a row without labels. Not every loss ignores it: a squared error would
        # learn the number -100, and a loss of pictures looks at no labels.
        return loss * 0 if bool((labels == process_group.IGNORED).all()) else loss

    return step_loss


class TokenTrainer(Trainer):
    """Overrides the Trainer's documented hooks for data and evaluation."""

    control: "TrainerControl"

    def configure_training(
        self,
        task: Task,
        batches: TokenBatches,
        precision: str,
        batch_plan: MicroBatches,
        settings: Training,
        average: WeightAverage | None,
        hidden: hidden_states.HiddenStates | None,
    ) -> None:
        """Set what to train on, and how; called before `train`."""
        self._task = task
        self._batches = batches
        self._precision = precision
        self._micro_batches = batch_plan
        self._settings = settings
        self._average = average
        self._hidden = hidden
        self._tokens = 0.0

    def get_train_dataloader(self) -> "DataLoader[Example]":
        """Return the batches of the whole training, in their fixed order."""
        task = self._task
        loader: DataLoader[Example] = DataLoader(
            cast("Dataset[Example]", task.train),  # any sequence works, but torch has no type for that
            batch_sampler=self._batches,
            collate_fn=process_group.collate_own_part(
                lambda examples: teacher.add_teacher_logits(task.objective.collate(examples, task.pad_id), examples)
            ),
        )
        # Not the accelerator's default, which would give each process batches of its own and change every step.
        prepared: DataLoader[Example] = prepare_data_loader(
            loader, self.args.device, num_processes=1, process_index=0, put_on_device=True
        )
        return prepared

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, torch.Tensor]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, torch.Tensor]], Items]:
        """Return the batches of an optimiser step, and count the real tokens for each item of its loss."""
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self._hidden is not None:
            tokens = sum(int(batch["attention_mask"].sum()) for batch in batches)
            self._tokens = tokens / max(int(items), 1)
        return batches, items

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, torch.Tensor], num_items_in_batch: Items | None = None
    ) -> torch.Tensor:
        """Run one batch forward and backward."""
        # Tokens are masked here, not in `collate`: batches are collated ahead of their step, and a resumed training
        # restores torch's generator to its state between two steps.
        if self._task.masking is not None:
            inputs = {**inputs, "input_ids": self._task.masking.hide_tokens(inputs["input_ids"])}
        items = cast(Items, num_items_in_batch)  # the Trainer counts them because there is a `compute_loss_func`
        return self._micro_batches.run_batch(inputs, self._build_learner(model, items), model)

    def _build_learner(self, model: torch.nn.Module, items: Items) -> micro_batches.Compute:
        """Return the forward and backward pass of a piece, as the recipe configures it."""
        plain_step = super().training_step
        rule = self._settings.adversarial
        r_drop_weight = self._settings.r_drop

        def learn_batch(batch: micro_batches.Batch, parts: int = 1) -> torch.Tensor:
            return cast(torch.Tensor, plain_step(model, dict(batch), items * parts))

        def compute_batch_loss(batch: micro_batches.Batch) -> torch.Tensor:
            loss = self.compute_loss(model, self._prepare_inputs(dict(batch)), num_items_in_batch=items)
            return cast(torch.Tensor, loss)

        def learn_perturbed(batch: micro_batches.Batch) -> torch.Tensor:
            if r_drop_weight is not None:
                batch = r_drop.double_batch(batch)
            if rule is None:
                return learn_batch(batch)
            return adversarial.learn_adversarially(rule, model, learn_batch, compute_batch_loss, batch)

        return learn_perturbed

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Items | None = None,
    ) -> "torch.Tensor | tuple[torch.Tensor, ModelOutput]":
        """Return the loss of a piece: that of its labels, and the distillation losses."""
        teacher_logits = inputs.pop("teacher", None)
        rule = self._settings.distill
        if rule is None:
            result: torch.Tensor | tuple[torch.Tensor, ModelOutput] = super().compute_loss(
                model, inputs, return_outputs, num_items_in_batch
            )
            return result
        with contextlib.nullcontext() if self._hidden is None else self._hidden.watch_student():
            loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        items = cast(Items, num_items_in_batch)  # the Trainer counts them because there is a `compute_loss_func`
        passes = 1 if self._settings.r_drop is None else 2  # over the same rows
        if teacher_logits is not None:
            distillation = teacher.distillation_loss(outputs.logits, teacher_logits, rule.temperature)
            distillation = distillation / max(int(items), 1)
            loss = (1 - rule.weight) * loss + rule.weight * distillation / passes
        if self._hidden is not None:
            # Adversarial training divides the loss by raising the number of items.
            tokens = self._tokens * int(items)
            loss = loss + rule.hidden * self._hidden.sum_distances() / (passes * max(tokens, 1))
        return (loss, outputs) if return_outputs else loss

    def evaluate(self, *_: object, **__: object) -> dict[str, float]:
        """Return the objective's metrics and the loss on the validation rows."""
        task = self._task
        own_indices = process_group.own_indices(task.validation)
        with self._average.apply_average() if self._average else contextlib.nullcontext():
            outcome = inference.run_model(
                self.model,
                task.objective,
                [task.validation[index] for index in own_indices],
                task.labels,
                task.conventions,
                pad_id=task.pad_id,
                budget=2 * self._batches.budget,
                precision=self._precision,
            )
        targets = [task.targets[index] for index in own_indices]
        statistics = task.objective.compute_statistics(targets, outcome.predictions, task.labels).sum(
            0, dtype="float64"
        )
        shares = process_group.all_gather((statistics, outcome.loss, outcome.items))
        sums, loss, items = (sum(process_parts) for process_parts in zip(*shares, strict=True))
        values = {
            f"eval_{name}": float(value) for name, value in task.objective.compute_metrics(sums, task.labels).items()
        }
        metrics = {"eval_loss": loss / max(1, items), **values}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics
