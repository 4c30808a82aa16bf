"""The recipe's `evaluation.robustness` section: behavioural tests."""

from collections.abc import Collection
from itertools import chain
from typing import Literal

from pydantic import Field

from evertune.config.base import Section

Invariance = Literal["typos", "case", "punctuation", "names"]
Test = Literal["typos", "case", "punctuation", "names", "negation"]


class Robustness(Section):
    """Behavioural tests on slightly changed test rows (Ribeiro et al. 2020)."""

    tests: list[Invariance] = Field(
        ["typos", "case", "punctuation", "names"],
        min_length=1,
        description="Changes that must not change a prediction.",
    )
    opposites: dict[str, str] = Field(
        default_factory=dict,
        description="Label -> label of the negated text, such as `{positive: negative}`; enables the test `negation`.",
    )
    rows: int = Field(500, ge=30, description="Number of test rows that each test changes, evenly spaced.")
    seed: int = Field(17, ge=0, lt=2**32, description="Seed of the changes.")

    def find_unknown_labels(self, labels: Collection[str]) -> list[str]:
        """Return the labels in `opposites` that are not among these labels."""
        return [label for label in dict.fromkeys(chain(*self.opposites.items())) if label not in labels]

    @property
    def names(self) -> list[str]:
        """All tests that are run."""
        return [*self.tests, *(["negation"] if self.opposites else [])]
