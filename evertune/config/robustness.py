"""The recipe's `evaluation.robustness` section: behavioural tests."""

from collections.abc import Collection
from itertools import chain
from typing import Literal

from pydantic import Field

from evertune.config.base import Section

Invariance = Literal["typos", "case", "punctuation", "names"]
Test = Literal["typos", "case", "punctuation", "names", "negation"]


class Robustness(Section):
    """Test rows with small changes, as behavioural tests (Ribeiro et al. 2020)."""

    tests: list[Invariance] = Field(
        ["typos", "case", "punctuation", "names"], min_length=1, description="Changes that must not change an answer."
    )
    opposites: dict[str, str] = Field(
        default_factory=dict,
        description="Label -> the label of its denial, which turns the test `negation` on: `{positive: negative}`.",
    )
    rows: int = Field(500, ge=30, description="Test rows that each test changes, evenly spaced.")
    seed: int = Field(17, ge=0, lt=2**32, description="Seed of the changes.")

    def find_unknown_labels(self, labels: Collection[str]) -> list[str]:
        """What `opposites` names and is none of these labels."""
        return [label for label in dict.fromkeys(chain(*self.opposites.items())) if label not in labels]

    @property
    def names(self) -> list[str]:
        """All tests that are made."""
        return [*self.tests, *(["negation"] if self.opposites else [])]
