"""Two texts as one row of token ids; a copy travels in bundles."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from .types import Columns

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Options(Protocol):
    """What the options of objectives for two texts have."""

    @property
    def max_length(self) -> int: ...


def encode(inputs: Sequence[Sequence[str]], tokenizer: "PreTrainedTokenizerBase", options: Options) -> Columns:
    """Encode pairs as token ids with special tokens, and their length before cutting; the longer text is cut first.

    Args:
        inputs: pairs of texts.
        tokenizer: of the base model.
        options: of the objective.
    """
    before, between, behind = special_tokens(tokenizer)
    room = options.max_length - len(before) - len(between) - len(behind)
    settings = {"add_special_tokens": False, "return_attention_mask": False, "return_token_type_ids": False}
    sides = [tokenizer([pair[side] for pair in inputs], verbose=False, **settings)["input_ids"] for side in (0, 1)]
    encoded: dict[str, list[int | list[int]]] = {"input_ids": [], "full_length": []}
    for first, second in zip(*sides, strict=True):
        first_size, second_size = _cut_longer(len(first), len(second), room)
        encoded["input_ids"].append(before + first[:first_size] + between + second[:second_size] + behind)
        encoded["full_length"].append(options.max_length - room + len(first) + len(second))
    return encoded


def _cut_longer(first: int, second: int, room: int) -> tuple[int, int]:
    """Shorten the longer of two lengths until both fit."""
    half = room // 2
    if first + second <= room:
        return first, second
    if second <= half:
        return room - second, second
    return (first, room - first) if first <= half else (room - half, half)


def special_tokens(tokenizer: "PreTrainedTokenizerBase") -> tuple[list[int], list[int], list[int]]:
    """Return the ids that the tokenizer puts before, between and after two texts, such as `[CLS]`, `[SEP]`, `[SEP]`."""
    first_ids, second_ids = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("a", "b"))
    whole = tokenizer("a", "b")["input_ids"]
    first = whole.index(first_ids[0])
    second = whole.index(second_ids[0], first + len(first_ids))
    return whole[:first], whole[first + len(first_ids) : second], whole[second + len(second_ids) :]
