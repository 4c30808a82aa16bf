"""The table of objectives: what a model can be tuned for. An objective is one file in this folder and one line here."""

import functools
import operator
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from evertune.objectives import (
    causal_lm,
    chat,
    embedding,
    image_classification,
    image_tokens,
    masked_lm,
    multi_label,
    pair_classification,
    pair_regression,
    question_answering,
    seq2seq,
    text_classification,
    text_to_image,
    token_classification,
)
from evertune.objectives.interface import Objective, ObjectiveFile, complete_objective

if TYPE_CHECKING:
    import pyarrow as pa
    from pydantic import BaseModel

    class Options(BaseModel):
        """What the options of all objectives have."""

        type: str
        max_length: int  # of those that cut


TABLE: dict[str, ObjectiveFile] = {  # mypy reports a part that a file lacks at its line
    "text-classification": text_classification,
    "token-classification": token_classification,
    "multi-label": multi_label,
    "pair-classification": pair_classification,
    "pair-regression": pair_regression,
    "question-answering": question_answering,
    "embedding": embedding,
    "masked-lm": masked_lm,
    "causal-lm": causal_lm,
    "chat": chat,
    "seq2seq": seq2seq,
    "image-classification": image_classification,
    "image-tokens": image_tokens,
    "text-to-image": text_to_image,
}
if not TYPE_CHECKING:
    Options = functools.reduce(operator.or_, [file.Options for file in TABLE.values()])


@functools.cache
def load_objective(name: str) -> Objective:
    """Return the objective of this name.

    Raises:
        KeyError: no such objective.
        TypeError: its file lacks a part.
    """
    return complete_objective(name, cast(ModuleType, TABLE[name]))


@functools.cache
def label_roles() -> frozenset[str]:
    """Return the roles that hold labels, of any objective."""
    return frozenset(file.TARGET for file in TABLE.values() if file.LABELED)


def extract_cells(rows: "pa.Table", roles: Sequence[str]) -> list[Any]:
    """Return what each row holds under these roles: a value, or a tuple of values where there are several roles."""
    columns = [rows[role].to_pylist() for role in roles]
    return columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))
