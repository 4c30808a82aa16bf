"""Four ways to train the same model on the same rows, on a GPU where there is one, and how fast each is.

(a) the loop of tutorials: every row padded to one length, 16 a step, fp32, plain AdamW;
(b) the Trainer of Hugging Face with dynamic padding, else as it comes (16 rows a step, which is faster than its 8);
(c) the Trainer as fast as its own arguments make it: bf16, rows grouped by length, its best batch size;
(d) Evertune's loop.

Dropout, schedule, warm-up, weight decay and clipping are the same in all four.
"""

import contextlib
import copy
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.training.rows import Prepared

ROWS = 16
LEAST_WIDTH = 128
WARMUP = 0.1
DECAY = 0.01
CLIP = 1.0


def pick_device() -> str:
    """Where all loops compute: on the GPU, if there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@dataclass
class Clock:
    """When each step's batch was asked for, and the real tokens and rows in it.

    On a GPU, when it came to that point: the program is ahead of it, and waiting for it would cost what is measured.
    """

    times: list[Any] = field(default_factory=list)
    work: list[Sequence[int]] = field(default_factory=list)

    def watch_collate(self, collate: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """A `collate` that notes when it is called, and with how many tokens."""

        def timed_collate(part: Any) -> Any:
            self.times.append(_mark_time())
            self.work.append([len(row["input_ids"]) for row in part])
            return collate(part)

        return timed_collate

    def measure_speed(self, flops: Callable[[int], float], skipped: int) -> dict[str, float]:
        """Rows, real tokens and floating-point operations of real tokens a second, without the first steps.

        A step runs from the call for one batch to the call for the next. Where batches are drawn one ahead, the first
        two calls come at once, and the batch of call n is learned between the calls n + 1 and n + 2.
        """
        times = _to_seconds(self.times)
        work = self.work
        step_lengths = [length for lengths in work[skipped:-2] for length in lengths]
        seconds = times[-1] - times[skipped + 1]
        return {
            "rows": sum(map(len, work[skipped:-2])) / seconds,
            "tokens": sum(step_lengths) / seconds,
            "flops": sum(map(flops, step_lengths)) / seconds,
        }


def _mark_time() -> Any:
    import torch

    if pick_device() == "cpu":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _to_seconds(marks: Sequence[Any]) -> Any:
    import torch

    if isinstance(marks[0], float):
        return np.array(marks)
    torch.cuda.synchronize()
    return np.array([marks[0].elapsed_time(mark) / 1000 for mark in marks])


def train_tutorial(data: Prepared, seed: int, steps: int | None, clock: Clock) -> Any:
    """Loop (a); returns the model."""
    import torch
    from transformers import get_linear_schedule_with_warmup

    model = data.build_model(seed).to(pick_device()).train()
    rows = data.train.examples
    total = steps or int(data.setting.epochs * len(rows) / ROWS)
    update = torch.optim.AdamW(model.parameters(), lr=data.setting.rate[0], weight_decay=DECAY)
    schedule = get_linear_schedule_with_warmup(update, int(WARMUP * total), total)
    padded = clock.watch_collate(lambda part: _pad_batch(data, part))

    def collate(part: Any) -> dict[str, Any]:
        return {name: value.to(pick_device()) for name, value in padded(part).items()}

    random = np.random.default_rng(seed)
    order = np.concatenate([random.permutation(len(rows)) for _ in range(-(-total * ROWS // len(rows)))])
    ahead = collate([rows[index] for index in order[:ROWS]])
    for step in range(total):
        batch = ahead
        following = order[(step + 1) * ROWS : (step + 2) * ROWS]
        ahead = collate([rows[index] for index in following]) if len(following) else None
        _make_loss(data)(SimpleNamespace(logits=model(**_drop_labels(batch)).logits), batch["labels"]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        update.step()
        schedule.step()
        update.zero_grad()
    return model


def _drop_labels(batch: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in batch.items() if name != "labels"}


def _pad_batch(data: Prepared, part: Sequence[Any]) -> dict[str, Any]:
    """The batch padded to one width for all, as `padding="max_length"` does."""
    import torch

    width = max(LEAST_WIDTH, data.options.max_length if data.setting.recipe.endswith("imdb.yaml") else 0)
    batch = data.objective.collate(part, data.tokenizer.pad_token_id)
    missing = max(0, width - batch["input_ids"].shape[1])
    fill = {"input_ids": data.tokenizer.pad_token_id, "attention_mask": 0, "labels": -100}
    return {
        name: torch.nn.functional.pad(value, (0, missing), value=fill[name]) if value.ndim == 2 else value
        for name, value in batch.items()
    }


def _make_loss(data: Prepared) -> Callable[..., Any]:
    """The mean over a batch's rows or words, as the models' own loss is."""

    def loss(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        return data.objective.compute_loss(outputs.logits, labels) / (labels >= 0).sum()

    return loss


def train_plain(data: Prepared, seed: int, steps: int | None, clock: Clock) -> Any:
    """Loop (b); returns the model."""
    return _run_trainer(data, seed, steps, clock, batch=ROWS, rate=data.setting.rate[0])


def train_tuned(data: Prepared, seed: int, steps: int | None, clock: Clock, batch: int | None = None) -> Any:
    """Loop (c); returns the model."""
    size = batch or data.setting.batch
    return _run_trainer(
        data,
        seed,
        steps,
        clock,
        batch=size,
        rate=data.setting.rate[1],
        bf16=True,
        train_sampling_strategy="group_by_length",
    )


def _run_trainer(
    data: Prepared, seed: int, steps: int | None, clock: Clock, *, batch: int, rate: float, **arguments: Any
) -> Any:
    from transformers import PrinterCallback, Trainer, TrainingArguments

    class Steps(Trainer):
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
            labels = inputs.pop("labels")
            return _make_loss(data)(model(**inputs), labels)

    model = data.build_model(seed)
    pad = data.tokenizer.pad_token_id
    with tempfile.TemporaryDirectory() as folder:
        trainer = Steps(
            model=model,
            train_dataset=list(data.train.examples),
            data_collator=clock.watch_collate(lambda part: data.objective.collate(part, pad)),
            args=TrainingArguments(
                output_dir=folder,
                per_device_train_batch_size=batch,
                learning_rate=rate,
                max_steps=steps or -1,
                num_train_epochs=data.setting.epochs,
                warmup_steps=WARMUP,
                weight_decay=DECAY,
                max_grad_norm=CLIP,
                seed=seed,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                remove_unused_columns=False,
                use_cpu=pick_device() == "cpu",
                logging_steps=10_000,
                **arguments,
            ),
        )
        trainer.remove_callback(PrinterCallback)
        with contextlib.redirect_stdout(None):
            trainer.train()
    return model


def train_evertune(data: Prepared, seed: int, steps: int | None, clock: Clock, compiled: bool = False) -> Any:
    """Loop (d): `evertune.training.trainer.fit`, as the fine-tuning step calls it; returns the model."""
    import torch

    from evertune.config import Training
    from evertune.runtime.precision import resolve_precision
    from evertune.serving.portable.batching import TokenBatches
    from evertune.training import trainer

    setting = data.setting
    lengths = data.train.lengths
    settings = Training(
        epochs=setting.epochs,
        learning_rate=setting.rate[1],
        tokens_per_batch=setting.tokens,
        seed=seed,
        warmup=WARMUP,
        weight_decay=DECAY,
        max_grad_norm=CLIP,
        compile=compiled,
    )
    if steps:
        batch_count = len(TokenBatches(lengths, setting.tokens, 1, seed))
        settings = settings.model_copy(update={"epochs": steps / batch_count, "checkpoint_steps": steps})
    objective = copy.copy(data.objective)
    objective.collate = lambda part, pad: clock.watch_collate(lambda rows: data.objective.collate(rows, pad))(part)
    task = trainer.Task(
        objective=objective,
        labels=data.labels,
        conventions={},
        metric=setting.metric,
        train=data.train.examples,
        lengths=lengths,
        validation=[],
        targets=[],
        weights=None,
        pad_id=data.tokenizer.pad_token_id,
        vocabulary=torch.from_numpy(
            np.unique(np.concatenate([example["input_ids"] for example in data.train.examples]))
        ),
    )
    model = data.build_model(seed)
    with tempfile.TemporaryDirectory() as folder:
        precision = resolve_precision("auto", Path(folder) / "machine.json")
        trainer.fit(model, task, settings, precision, Path(folder), lambda *_: None, Path(folder) / "machine.json")
    return model


LOOPS: dict[str, Callable[..., Any]] = {"a": train_tutorial, "b": train_plain, "c": train_tuned, "d": train_evertune}
