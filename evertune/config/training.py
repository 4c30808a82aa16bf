"""The recipe's `training` section: how the weights change."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from evertune.config.base import Section
from evertune.config.losses import Adversary, ClassBalanced, Distill, Focal, Loss, Student
from evertune.config.methods import FULL, Method


class EarlyStopping(Section):
    """Stop when the validation metric no longer improves."""

    patience: int = Field(2, ge=1, description="Evaluations without improvement before training stops.")
    min_delta: float = Field(0.0, ge=0, description="Smallest change that counts as improvement.")


ALONE = ("adversarial", "r_drop", "ema", "mixout", "distill")  # settings that work in one process only
WHOLE = ("student", "mixout")  # settings that change all weights, so not for adapters
AUTO_TOKENS = 4096  # token budget of a batch where the recipe sets none


class Training(Section):
    """How the weights change."""

    HOW: ClassVar = ("processes", "compile")  # settings that change the computation but not the result, beyond noise

    method: Method = Field(
        "full",
        description="`full`: all weights that `freeze` and `train_top_layers` do not fix. Otherwise the name of one "
        "of the [methods](#methods), or a mapping of its `type` and options.",
    )
    epochs: float = Field(3, gt=0, le=1000, description="Passes over the training rows.")
    learning_rate: float = Field(3e-4, gt=0, le=1, description="Peak learning rate.")
    head_learning_rate: float | None = Field(
        None, gt=0, le=1, description="Peak learning rate of the new head. Default: `learning_rate`."
    )
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Learning rate of each layer as a multiple of that of the layer above, down to the embeddings.",
    )
    schedule: Literal["linear", "cosine", "constant_with_warmup"] = Field(
        "linear", description="Learning rate after warm-up."
    )
    warmup: float = Field(0.1, ge=0, lt=1, description="Share of the steps in which the learning rate rises from 0.")
    weight_decay: float = Field(0.01, ge=0, le=1, description="AdamW's decoupled weight decay.")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Probability mass spread over the other labels.")
    loss: Loss = Field(
        None,
        description="`cross-entropy`, or the name of one of the [losses](#losses), or a mapping of its `type` and "
        "options. Default: the objective's own.",
    )
    adversarial: Adversary = Field(
        None,
        description="Adversarial training on perturbed embeddings: the name of one of the "
        "[adversaries](#adversaries), or a mapping of its `type` and options. Default: none.",
    )
    r_drop: float | None = Field(
        None, gt=0, description="R-Drop: weight of the divergence between two dropout passes (Liang et al. 2021)."
    )
    ema: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Evaluate and keep an exponential moving average of the weights, with this decay per step.",
    )
    mixout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Probability that a weight is replaced by the base model's for a step (Lee et al. 2020).",
    )
    distill: Distill | None = Field(None, description="Also learn from a teacher. Default: from the labels alone.")
    student: Student | None = Field(
        None, description="Train a model with fewer layers. Default: the base model as it is."
    )
    mask_tokens: float = Field(
        0.0, ge=0, lt=0.5, description="Share of the tokens that training replaces by the mask token (word dropout)."
    )
    max_grad_norm: float = Field(1.0, gt=0, description="Gradient clipping by global norm.")
    tokens_per_batch: Annotated[int, Field(ge=16)] | Literal["auto"] = Field(
        AUTO_TOKENS,
        description="Token budget of a batch. `auto`: an optimizer step learns from "
        f"{AUTO_TOKENS} times `accumulation` tokens, in micro-batches of the size that is fastest on this machine.",
    )
    accumulation: int = Field(1, ge=1, description="Batches per optimizer step.")
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="`balanced`: weights inversely proportional to label frequency."
    )
    freeze: list[str] = Field(default_factory=list, description="Shell-style patterns of parameter names to freeze.")
    train_top_layers: int | None = Field(None, ge=0, description="Train only the top N encoder layers and the head.")
    early_stopping: EarlyStopping | None = Field(
        None, description="Early stopping on the validation split, by `evaluation.metric`."
    )
    checkpoint_steps: int | None = Field(
        None,
        ge=1,
        description="Steps between checkpoints, each with an evaluation. Default: once an epoch, at most 250 steps "
        "apart.",
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="`auto`: bf16 where it is faster on this machine."
    )
    processes: int = Field(
        1,
        ge=1,
        le=1024,
        description="Training processes on each machine, one per GPU; they share `tokens_per_batch`.",
    )
    compile: bool = Field(
        False,
        description="Compile the layers with `torch.compile`. It takes about a minute; use it for long trainings on a "
        "GPU.",
    )
    seed: int = Field(17, ge=0, lt=2**32, description="Seed of new weights, row order and dropout.")

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if isinstance(self.loss, Focal) and self.label_smoothing:
            raise ValueError("loss: focal uses the probability of the true label only; remove label_smoothing")
        if isinstance(self.loss, ClassBalanced) and self.class_weights != "none":
            raise ValueError("loss: class-balanced already weights the labels; remove class_weights")
        single_process = [name for name in ALONE if getattr(self, name)]
        if single_process and self.processes > 1:
            raise ValueError(f"{single_process[0]}: works in one process only; set processes to 1")
        if self.distill is not None and self.distill.hidden:
            if self.virtual_tokens:
                raise ValueError("distill.hidden: the teacher has no virtual tokens; choose another method")
            if self.compile:
                raise ValueError(
                    "distill.hidden: reads the layers' outputs, which `compile` hides; set compile to false"
                )
        full_only = [name for name in WHOLE if getattr(self, name)]
        if full_only and self.method != FULL:
            raise ValueError(f"{full_only[0]}: changes all weights; set method to full")
        return self

    @property
    def budget(self) -> int:
        """Token budget of a batch."""
        return AUTO_TOKENS if self.tokens_per_batch == "auto" else self.tokens_per_batch

    @property
    def needs_base(self) -> bool:
        """Whether the bundle holds an adapter alone, which needs its base model."""
        return self.method != FULL and not getattr(self.method, "merge", False)

    @property
    def names_parts(self) -> bool:
        """Whether it names parts of a model, or another model: only a built model shows whether they fit."""
        named = self.freeze or self.student or self.distill or self.mixout or self.layer_decay < 1
        return self.method != FULL or bool(named) or self.train_top_layers is not None

    @property
    def virtual_tokens(self) -> int:
        """Tokens that the method adds to every row."""
        return getattr(self.method, "virtual_tokens", 0)
