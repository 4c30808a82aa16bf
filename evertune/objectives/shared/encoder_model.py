"""A base model with room for a new head; a copy travels in bundles."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


def make_model_class(config: "PreTrainedConfig") -> "type[PreTrainedModel]":
    """Return a `PreTrainedModel` class whose instances hold the base model of this configuration.

    A subclass adds its head in `__init__`, after `super().__init__(config)`, and calls `self.post_init()`.
    """
    from transformers import MODEL_MAPPING, AutoModel, PreTrainedModel

    base_class = MODEL_MAPPING[type(config)]

    class ModelWithBase(PreTrainedModel):
        """A base model alone."""

        config_class = type(config)
        # The family's own name for its base: under any other, `from_pretrained` finds no weight of a checkpoint that
        # was saved with a head (`bert.encoder...`) and silently draws the base at random.
        base_model_prefix = base_class.base_model_prefix
        _supports_sdpa = base_class._supports_sdpa

        def __init__(self, config: "PreTrainedConfig") -> None:
            super().__init__(config)
            setattr(self, self.base_model_prefix, AutoModel.from_config(config, trust_remote_code=False))

    return ModelWithBase


def load_config(path: str | Path, labels: Iterable[str]) -> "PreTrainedConfig":
    """Return the configuration of a base model with these labels as its outputs."""
    from transformers import AutoConfig

    names = dict(enumerate(labels))
    ids = {label: index for index, label in names.items()}
    return AutoConfig.from_pretrained(
        path, num_labels=len(names), id2label=names, label2id=ids, trust_remote_code=False
    )
