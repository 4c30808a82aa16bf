"""The recipe's `training` section: how the weights change."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evertune.config.base import Section
from evertune.config.methods import FULL, Method


class EarlyStopping(Section):
    """Stop when the validation metric no longer improves."""

    patience: int = Field(2, ge=1, description="Evaluations without improvement before training stops.")
    min_delta: float = Field(0.0, ge=0, description="Smallest change that counts as improvement.")


AUTO_TOKENS = 4096  # of a batch, where the recipe does not say


class Training(Section):
    """How the weights change."""

    HOW: ClassVar = ("processes", "compile")  # how it is computed: shapes no weight beyond noise

    method: Method = Field(
        "full",
        description="`full`: all weights that `freeze` and `train_top_layers` leave free; else the name of one of the "
        "[methods](#methods), or a mapping of its `type` and options.",
    )
    epochs: float = Field(3, gt=0, le=1000, description="Passes over the training rows.")
    learning_rate: float = Field(3e-4, gt=0, le=1, description="Peak learning rate.")
    head_learning_rate: float | None = Field(
        None, gt=0, le=1, description="Peak learning rate of the new head. Default: the same."
    )
    layer_decay: float = Field(
        1.0, gt=0, le=1,
        description="The rate of each layer as a multiple of the one above it, down to the embeddings.",
    )  # fmt: skip
    schedule: Literal["linear", "cosine", "constant_with_warmup"] = Field("linear", description="Decay after warm-up.")
    warmup: float = Field(0.1, ge=0, lt=1, description="Share of the steps in which the rate rises from 0.")
    weight_decay: float = Field(0.01, ge=0, le=1, description="AdamW's decoupled weight decay.")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Probability mass spread over the other labels.")
    mask_tokens: float = Field(
        0.0, ge=0, lt=0.5, description="Share of the tokens that training hides behind the mask token (word dropout)."
    )
    max_grad_norm: float = Field(1.0, gt=0, description="Gradient clipping by global norm.")
    tokens_per_batch: Annotated[int, Field(ge=16)] | Literal["auto"] = Field(
        AUTO_TOKENS,
        description="Token budget of a batch; `auto`: an optimiser step learns from "
        f"{AUTO_TOKENS} times `accumulation`, computed in pieces of the size that is fastest here.",
    )
    accumulation: int = Field(1, ge=1, description="Batches per optimiser step.")
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="`balanced`: weights inverse to label frequency."
    )
    freeze: list[str] = Field(
        default_factory=list, description="Patterns (shell style) of parameter names that stay fixed."
    )
    train_top_layers: int | None = Field(None, ge=0, description="Train only the top N encoder layers and the head.")
    early_stopping: EarlyStopping | None = Field(None, description="On the validation split, by `evaluation.metric`.")
    checkpoint_steps: int | None = Field(
        None,
        ge=1,
        description="Steps between checkpoints, each with a validation. Default: once an epoch, at most 250 steps.",
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="`auto`: bf16 where this machine is faster with it."
    )
    processes: int = Field(
        1, ge=1, le=1024,
        description="Processes that train together on each machine, one a GPU; `tokens_per_batch` is dealt among them.",
    )  # fmt: skip
    compile: bool = Field(
        False,
        description="Compile the layers with `torch.compile`: costs about a minute, for long trainings on a GPU.",
    )
    seed: int = Field(17, ge=0, lt=2**32, description="Seed of weights, order and dropout.")

    @property
    def budget(self) -> int:
        """Tokens of a batch."""
        return AUTO_TOKENS if self.tokens_per_batch == "auto" else self.tokens_per_batch

    @property
    def apart(self) -> bool:
        """Whether the bundle holds an adapter alone, which needs its base."""
        return self.method != FULL and not getattr(self.method, "merge", False)

    @property
    def virtual_tokens(self) -> int:
        """Tokens that the method adds to every row."""
        return getattr(self.method, "virtual_tokens", 0)
