"""The types that the objectives' files share; a copy travels in their bundles."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypedDict

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Ids = Sequence[int] | NDArray[np.integer]  # of one row: a list as encoded, an array as read from a token file
Columns = Mapping[str, Sequence[int | Ids]]  # what `encode` makes
EncodedRow = Mapping[str, Ids]  # its columns that hold lists
Batch = dict[str, "torch.Tensor"]
Statistics = NDArray[np.floating]  # (rows, m), in fp32 where they are counts
Floats = NDArray[np.float64]  # sums of statistics (..., m), and metrics of them (...)


class TokenExample(TypedDict):
    """What every example has, whose length is that of its row in a batch."""

    input_ids: Ids
