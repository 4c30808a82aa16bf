"""Picks which column is what, by what the columns look like and are called; every pick has its reason."""

import difflib
import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from evertune.errors import DataError
from evertune.profiling.column_profile import Profile

PICKED = (("text", "label"), ("tokens", "tags"), ("image", "label"))  # inputs and targets that are picked here
FREE_TEXT = 1.5  # mean words of a cell from which a column is free text
MOST_LABELS = 200  # more distinct values than this are no labels, unless the column is called so
LABEL_NAMES = (
    "label", "labels", "intent", "category", "class", "target", "topic", "sentiment", "tag", "type", "kind", "rating",
)  # fmt: skip
TEXT_NAMES = ("text", "message", "body", "content", "sentence", "description", "review", "comment", "query")
WORD_NAMES = ("tokens", "words", "token", "word")
TAG_NAMES = ("ner_tags", "tags", "labels", "ner", "entities", "tag", "label", "pos_tags")
ID_NAME = re.compile(r"(?i:.*(^|[_\-. ])(id|uuid|guid|key))|.*[a-z](Id|ID)")
GROUP_NAME = re.compile(
    r"(?i).*(customer|client|user|account|thread|conversation|session|author|contact|company|e-?mail|household|patient).*"
)
TIME_NAME = re.compile(r"(?i).*(time|date|created|updated|when|day|_at$|^ts$|_ts$).*")
TAG = re.compile(r"O|[BIESLU]-\S+")
MISFITS = 0.05  # share of rows that may have another number of tags than of words: the contract refuses them
MOST_REPEATS = 0.01  # share of rows without an id of their own, from which the column is no id
LARGEST_GROUP = 0.2  # share of the rows; a larger group would tear the splits' shares


@dataclass
class Choice:
    """Role -> column, role -> reason, and notes on what else could be meant."""

    columns: dict[str, str] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def take(self, role: str, column: str, why: str) -> None:
        """Give a role its column."""
        self.columns[role] = column
        self.why[role] = why


def choose(
    name: str, profiles: Sequence[Profile], objective: str, given_input: str | None, given_target: str | None
) -> Choice:
    """The columns of an objective's input and target, and of id, timestamp and group where there are such.

    Args:
        name: the file, for messages.
        given_input, given_target: columns that a person named.
    Raises:
        DataError: a given column does not exist, or one cannot be picked.
    """
    for flag, column in (("--text", given_input), ("--label", given_target)):
        if column is not None and column not in [one.name for one in profiles]:
            raise DataError(f"{flag} {column}: no such column in {name}; {_near(column, profiles)}")
        _check_given(flag, next((one for one in profiles if one.name == column), None), objective)
    if given_input is not None and given_input == given_target:
        raise DataError(f"--text and --label are both {given_input}; name two columns")
    choice = Choice()
    if objective == "token-classification":
        _words_and_tags(choice, name, profiles, given_input, given_target)
    elif objective == "image-classification":
        _picture_and_label(choice, name, profiles, given_input, given_target)
    else:
        _text_and_label(choice, name, profiles, given_input, given_target)
    beside(choice, profiles)
    return choice


def beside(choice: Choice, profiles: Sequence[Profile]) -> None:
    """Add the columns of id, timestamp and group, where there are such."""
    rest = [one for one in profiles if one.name not in choice.columns.values() and not (one.is_list or one.is_picture)]
    _id(choice, rest)
    _timestamp(choice, rest)
    _group(choice, [one for one in rest if one.name not in choice.columns.values()])


def _check_given(flag: str, one: Profile | None, objective: str) -> None:
    if one is None:
        return
    if not one.filled:
        raise DataError(f"{flag} {one.name}: this column is empty; name another")
    if one.is_list != (objective == "token-classification"):
        holds = "lists of words" if one.is_list else "no lists of words"
        fits = "text-classification" if objective == "token-classification" else "token-classification"
        raise DataError(f"{flag} {one.name}: it holds {holds}; name another column, or give --objective {fits}")


def _text_and_label(
    choice: Choice, name: str, profiles: Sequence[Profile], text: str | None, label: str | None
) -> None:
    plain = [one for one in profiles if not one.is_list and one.filled and one.name != label]
    free = [one for one in plain if (one.words >= FREE_TEXT or _named_text(one)) and one.dated < 0.5]
    if text is None:
        best = max(free, key=lambda one: (_named_text(one), one.mean_length), default=None)
        if best is None:
            raise _cannot_pick("text", name, profiles)
        kind = f"called so, and {best.distinct} distinct texts" if _named_text(best) else "the longest free text"
        choice.take("text", best.name, f"{kind}, {best.mean_length:.0f} characters on average")
        if others := [one.name for one in free if one is not best and one.name.lower() in TEXT_NAMES]:
            choice.notes.append(f"{', '.join(others)} could be the text too; --text COL picks another")
    else:
        choice.take("text", text, "given")
    _label(choice, name, profiles, plain, choice.columns["text"], label)


def _picture_and_label(
    choice: Choice, name: str, profiles: Sequence[Profile], image: str | None, label: str | None
) -> None:
    found = [one.name for one in profiles if one.is_picture and image in {None, one.name}]
    if not found:
        raise _cannot_pick("image", name, profiles)
    choice.take("image", found[0], "given" if image else "its cells are pictures")
    plain = [one for one in profiles if not (one.is_list or one.is_picture) and one.filled and one.name != label]
    _label(choice, name, profiles, plain, found[0], label)


def _label(
    choice: Choice, name: str, profiles: Sequence[Profile], plain: Sequence[Profile], given: str, label: str | None
) -> None:
    """Pick the label among plain columns; `given` is the input's."""
    if label is not None:
        choice.take("label", label, "given")
        return
    candidates = sorted((one for one in plain if _is_label(one, given)), key=_label_rank)
    if not candidates or (len(candidates) > 1 and _label_rank(candidates[0])[:2] == _label_rank(candidates[1])[:2]):
        raise _cannot_pick("label", name, profiles)
    best = candidates[0]
    each = best.filled / best.distinct
    choice.take("label", best.name, f"{best.distinct} values that repeat, each in {each:.0f} rows on average")
    if len(candidates) > 1:
        others = [one.name for one in candidates[1:]]
        choice.notes.append(f"{', '.join(others)} could be the label too; --label COL picks another")


def _named_text(one: Profile) -> bool:
    """Whether a column is called as texts are and is no category: one-word and Chinese texts have no spaces."""
    return one.name.lower() in TEXT_NAMES and one.numeric < 0.5 and one.distinct * 2 > one.filled


def _is_label(one: Profile, text: str) -> bool:
    named = one.name.lower() in LABEL_NAMES
    if one.name == text or one.dated > 0.9 or one.mean_length > 60:
        return False
    if not named and (
        one.distinct < 2 or GROUP_NAME.fullmatch(one.name) or ID_NAME.fullmatch(one.name) or one.distinct > MOST_LABELS
    ):
        return False
    return one.distinct * 2 <= one.filled


def _label_rank(one: Profile) -> tuple[int, bool, int]:
    lower = one.name.lower()
    return LABEL_NAMES.index(lower) if lower in LABEL_NAMES else len(LABEL_NAMES), one.numeric > 0.9, one.distinct


def _words_and_tags(
    choice: Choice, name: str, profiles: Sequence[Profile], words: str | None, tags: str | None
) -> None:
    lists = [one for one in profiles if one.is_list and one.filled]
    if words is None:
        best = min((one for one in lists if one.name != tags), key=_word_rank, default=None)
        if best is None:
            raise _cannot_pick("tokens", name, profiles)
        words = best.name
        choice.take(
            "tokens", words, f"lists of words, {best.distinct} distinct ones, {best.words:.0f} a row on average"
        )
    else:
        choice.take("tokens", words, "given")
    if tags is not None:
        choice.take("tags", tags, "given")
        return
    lengths = next(one.lengths for one in profiles if one.name == words)
    misfits = {one.name: _misfits(one.lengths, lengths) for one in lists if one.name != words}
    fitting = [one for one in lists if misfits.get(one.name, len(lengths)) <= MISFITS * len(lengths)]
    found = min(fitting, key=_tag_rank, default=None)
    if found is None:
        raise _cannot_pick("tags", f"{name}: no other list is as long as {words} in nearly every row", profiles)
    each = f"all rows but {misfits[found.name]} or more" if misfits[found.name] else "every row"
    choice.take("tags", found.name, f"as long as {words} in {each}, {found.distinct} distinct values")
    if misfits[found.name]:
        choice.notes.append(f"some rows have not as many {found.name} as {words}; the contract refuses them")
    if others := [one.name for one in fitting if one is not found]:
        choice.notes.append(f"{', '.join(others)} could be the tags too; --label COL picks another")


def _misfits(some: Sequence[int], others: Sequence[int]) -> int:
    """Least number of rows whose lengths differ."""
    return max((Counter(some) - Counter(others)).total(), (Counter(others) - Counter(some)).total())


def tags_between_spaces(
    profiles: Sequence[Profile], columns: Mapping[str, Sequence[Any]], words: str | None, tags: str | None
) -> bool:
    """Whether a column's words are tags, as many as another column has words.

    Args:
        words, tags: columns that a person named.
    """
    texts = [one for one in profiles if not one.is_list and one.filled and one.words >= FREE_TEXT]
    tagged = [one for one in texts if _tag_like({tag for value in one.counts for tag in value.split()})]
    return any(
        _misfits(*(sorted(len(str(value or "").split()) for value in columns[one.name]) for one in pair))
        <= MISFITS * pair[0].rows
        for pair in itertools.product(tagged, texts)
        if pair[0] is not pair[1] and tags in {None, pair[0].name} and words in {None, pair[1].name}
    )


def _tag_like(words: Set[str]) -> bool:
    return "O" in words and all(TAG.fullmatch(word) for word in words)


def _word_rank(one: Profile) -> tuple[int, int]:
    lower = one.name.lower()
    return WORD_NAMES.index(lower) if lower in WORD_NAMES else len(WORD_NAMES), -one.distinct


def _tag_rank(one: Profile) -> tuple[int, int]:
    lower = one.name.lower()
    return TAG_NAMES.index(lower) if lower in TAG_NAMES else len(TAG_NAMES), one.distinct


def _id(choice: Choice, rest: Sequence[Profile]) -> None:
    named = [one for one in rest if ID_NAME.fullmatch(one.name) and not GROUP_NAME.fullmatch(one.name)]
    one = min(named, key=lambda one: one.repeats, default=None)
    if one is None or one.repeats > MOST_REPEATS * one.rows:
        return
    own = "every row" if not one.repeats else "nearly every row"
    choice.take("id", one.name, f"{own} has its own: a changed row will replace its older version")
    if one.repeats:
        choice.notes.append(f"rows without a {one.name} of their own: {one.repeats}; the contract refuses such rows")
    if _counts_up(one):
        choice.notes.append(
            f"{one.name} counts up from {min(map(int, one.counts))}: if another file starts there again, its rows "
            "would replace these; then take `id` out of data.columns"
        )


def _counts_up(one: Profile) -> bool:
    if not all(value.isdecimal() for value in one.counts):
        return False
    numbers = [int(value) for value in one.counts]
    return min(numbers) in {0, 1} and max(numbers) - min(numbers) == len(numbers) - 1


def _timestamp(choice: Choice, rest: Sequence[Profile]) -> None:
    dated = [one for one in rest if one.dated >= 0.95 and (one.numeric < 0.5 or TIME_NAME.fullmatch(one.name))]
    dated.sort(key=lambda one: "creat" not in one.name.lower())
    if dated:
        choice.take("timestamp", dated[0].name, "its cells are moments: they order the versions of a row")
    if len(dated) > 1:
        choice.notes.append(
            f"{', '.join(one.name for one in dated[1:])} hold moments too; data.columns.timestamp names one"
        )


def _group(choice: Choice, rest: Sequence[Profile]) -> None:
    for one in rest:
        if not GROUP_NAME.fullmatch(one.name) or one.distinct < 5 or one.distinct == one.filled:
            continue
        if one.counts.most_common(1)[0][1] > LARGEST_GROUP * one.filled:
            choice.notes.append(f"{one.name} is not taken as group: one value holds a large part of the rows")
            continue
        choice.take("group", one.name, f"{one.distinct} values that repeat: rows of one stay in one split")
        return


def _near(column: str, profiles: Sequence[Profile]) -> str:
    names = [one.name for one in profiles]
    near = difflib.get_close_matches(column, names, 1, 0.5)
    return f"it has {', '.join(names)}" + (f"; did you mean {near[0]}?" if near else "")


def _cannot_pick(role: str, name: str, profiles: Sequence[Profile]) -> DataError:
    flags = "name the columns with --text COL and --label COL"
    lines = [f"  {one.name}: {one.described()}" for one in profiles]
    return DataError("\n".join([f"{name}: no column is clearly the {role}; {flags}. The columns:", *lines]))
