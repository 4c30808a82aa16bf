"""Pick the column of each role by the columns' names and contents; every pick has a reason."""

import difflib
import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from evertune.data.label_variants import explain_variants
from evertune.errors import DataError
from evertune.profiling.column_profile import Profile

# Roles of the objectives whose columns are picked here.
PICKED = (("text", "label"), ("tokens", "tags"), ("image", "label"))
FREE_TEXT = 1.5  # mean words a cell: from here on a column is free text
MOST_LABELS = 200  # a column with more distinct values holds no labels, unless its name says so
LABEL_NAMES = (
    "label",
    "labels",
    "intent",
    "category",
    "class",
    "target",
    "topic",
    "sentiment",
    "tag",
    "type",
    "kind",
    "rating",
)
TEXT_NAMES = ("text", "message", "body", "content", "sentence", "description", "review", "comment", "query")
WORD_NAMES = ("tokens", "words", "token", "word")
TAG_NAMES = ("ner_tags", "tags", "labels", "ner", "entities", "tag", "label", "pos_tags")
ID_NAME = re.compile(r"(?i:.*(^|[_\-. ])(id|uuid|guid|key))|.*[a-z](Id|ID)")
GROUP_NAME = re.compile(
    r"(?i).*(customer|client|user|account|thread|conversation|session|author|contact|company|e-?mail|household|patient).*"
)
TIME_NAME = re.compile(  # whole words of a name: `candidate` and `runtime` are none
    r"(?i)(?:.*[\W\d_])?(?:date ?time|time ?stamp|time|date|created|updated|when|day|at|ts)"
    r"(?:[\W\d_].*)?"
    r"|.*(?-i:[a-z](?:Date|Time|Day|At|Timestamp|DateTime))"
)
TAG = re.compile(r"O|[BIESLU]-\S+")
MISFITS = 0.05  # share of rows whose numbers of tags and words may differ; the contract refuses them
MOST_REPEATS = 0.01  # share of rows that may lack an id or repeat one; above it the column is no id
LARGEST_GROUP = 0.2  # share of the rows; a larger group would distort the splits


@dataclass
class Choice:
    """The picked columns.

    Args:
        columns: role -> column.
        why: role -> reason.
        notes: other columns that could be meant.
    """

    columns: dict[str, str] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def take_column(self, role: str, column: str, reason: str) -> None:
        """Give a role its column."""
        self.columns[role] = column
        self.why[role] = reason


def choose_columns(
    name: str, profiles: Sequence[Profile], objective: str, given_input: str | None, given_target: str | None
) -> Choice:
    """Pick the columns of an objective's input and target, and of id, timestamp and group where there are any.

    Args:
        name: the file, for messages.
        profiles: of all columns.
        objective: its name.
        given_input: the input column, if a person named it.
        given_target: the target column, if a person named it.
    Raises:
        DataError: a named column does not exist or does not fit, or a column cannot be picked.
    """
    for flag, column in (("--text", given_input), ("--label", given_target)):
        if column is not None and column not in [profile.name for profile in profiles]:
            raise DataError(f"{flag} {column}: no such column in {name}; {_suggest_column(column, profiles)}")
        _check_given_column(flag, next((profile for profile in profiles if profile.name == column), None), objective)
    if given_input is not None and given_input == given_target:
        raise DataError(f"--text and --label are both {given_input}; name two columns")
    choice = Choice()
    if objective == "token-classification":
        _pick_words_and_tags(choice, name, profiles, given_input, given_target)
    elif objective == "image-classification":
        _pick_picture_and_label(choice, name, profiles, given_input, given_target)
    else:
        _pick_text_and_label(choice, name, profiles, given_input, given_target)
    target = next((profile for profile in profiles if profile.name in list(choice.columns.values())[1:2]), None)
    if target is not None and (note := explain_variants(target.counts)):
        choice.notes.append(note)
    add_key_columns(choice, profiles)
    return choice


def add_key_columns(choice: Choice, profiles: Sequence[Profile]) -> None:
    """Pick the columns of id, timestamp and group from those that have no role yet."""
    rest = [
        profile
        for profile in profiles
        if profile.name not in choice.columns.values() and not (profile.is_list or profile.is_picture)
    ]
    _pick_id(choice, rest)
    _pick_timestamp(choice, rest)
    _pick_group(choice, [profile for profile in rest if profile.name not in choice.columns.values()])


def _check_given_column(flag: str, profile: Profile | None, objective: str) -> None:
    if profile is None:
        return
    if not profile.filled:
        raise DataError(f"{flag} {profile.name}: the column is empty; name another")
    if profile.is_list != (objective == "token-classification"):
        content = "holds lists of words" if profile.is_list else "does not hold lists of words"
        other_objective = "text-classification" if objective == "token-classification" else "token-classification"
        raise DataError(
            f"{flag} {profile.name}: the column {content}; name another, or use --objective {other_objective}"
        )


def _pick_text_and_label(
    choice: Choice, name: str, profiles: Sequence[Profile], text: str | None, label: str | None
) -> None:
    plain = [profile for profile in profiles if not profile.is_list and profile.filled and profile.name != label]
    free = [
        profile for profile in plain if (profile.words >= FREE_TEXT or _is_named_text(profile)) and profile.dated < 0.5
    ]
    if text is None:
        best = max(free, key=lambda profile: (_is_named_text(profile), profile.mean_length), default=None)
        if best is None:
            raise _pick_error("text", name, profiles)
        kind = f"its name, and {best.distinct} distinct texts" if _is_named_text(best) else "the longest free text"
        choice.take_column("text", best.name, f"{kind}, {best.mean_length:.0f} characters on average")
        if others := [profile.name for profile in free if profile is not best and profile.name.lower() in TEXT_NAMES]:
            choice.notes.append(f"{', '.join(others)} could be the text as well; --text COL picks another")
    else:
        choice.take_column("text", text, "given")
    _pick_label(choice, name, profiles, plain, choice.columns["text"], label)


def _pick_picture_and_label(
    choice: Choice, name: str, profiles: Sequence[Profile], image: str | None, label: str | None
) -> None:
    pictures = [profile.name for profile in profiles if profile.is_picture and image in {None, profile.name}]
    if not pictures:
        raise _pick_error("image", name, profiles)
    choice.take_column("image", pictures[0], "given" if image else "its cells are pictures")
    plain = [
        profile
        for profile in profiles
        if not (profile.is_list or profile.is_picture) and profile.filled and profile.name != label
    ]
    _pick_label(choice, name, profiles, plain, pictures[0], label)


def _pick_label(
    choice: Choice,
    name: str,
    profiles: Sequence[Profile],
    plain: Sequence[Profile],
    input_column: str,
    label: str | None,
) -> None:
    """Pick the label among plain columns, unless `label` names it."""
    if label is not None:
        choice.take_column("label", label, "given")
        return
    candidates = sorted((profile for profile in plain if _is_label(profile, input_column)), key=_rank_label)
    if not candidates or (len(candidates) > 1 and _rank_label(candidates[0])[:2] == _rank_label(candidates[1])[:2]):
        raise _pick_error("label", name, profiles)
    best = candidates[0]
    rows_per_value = best.filled / best.distinct
    choice.take_column("label", best.name, f"{best.distinct} values, each in {rows_per_value:.0f} rows on average")
    if len(candidates) > 1:
        others = [profile.name for profile in candidates[1:]]
        choice.notes.append(f"{', '.join(others)} could be the label as well; --label COL picks another")


def _is_named_text(profile: Profile) -> bool:
    """Whether a column has a text's name and is not a category. One-word and Chinese texts have no spaces."""
    return profile.name.lower() in TEXT_NAMES and profile.numeric < 0.5 and profile.distinct * 2 > profile.filled


def _is_label(profile: Profile, text: str) -> bool:
    named = profile.name.lower() in LABEL_NAMES
    if profile.name == text or profile.dated > 0.9 or profile.mean_length > 60:
        return False
    if not named and (
        profile.distinct < 2
        or GROUP_NAME.fullmatch(profile.name)
        or ID_NAME.fullmatch(profile.name)
        or profile.distinct > MOST_LABELS
    ):
        return False
    return profile.distinct * 2 <= profile.filled


def _rank_label(profile: Profile) -> tuple[int, bool, int]:
    lower = profile.name.lower()
    return (
        LABEL_NAMES.index(lower) if lower in LABEL_NAMES else len(LABEL_NAMES),
        profile.numeric > 0.9,
        profile.distinct,
    )


def _pick_words_and_tags(
    choice: Choice, name: str, profiles: Sequence[Profile], words: str | None, tags: str | None
) -> None:
    lists = [profile for profile in profiles if profile.is_list and profile.filled]
    if words is None:
        best = min((profile for profile in lists if profile.name != tags), key=_rank_words, default=None)
        if best is None:
            raise _pick_error("tokens", name, profiles)
        words = best.name
        choice.take_column(
            "tokens", words, f"lists of words, {best.distinct} distinct words, {best.words:.0f} a row on average"
        )
    else:
        choice.take_column("tokens", words, "given")
    if tags is not None:
        choice.take_column("tags", tags, "given")
        return
    lengths = next(profile.lengths for profile in profiles if profile.name == words)
    misfits = {profile.name: _count_misfits(profile.lengths, lengths) for profile in lists if profile.name != words}
    fitting = [profile for profile in lists if misfits.get(profile.name, len(lengths)) <= MISFITS * len(lengths)]
    best_tags = min(fitting, key=_rank_tags, default=None)
    if best_tags is None:
        raise _pick_error("tags", f"{name}: no other list is as long as {words} in nearly every row", profiles)
    matching_rows = "nearly every row" if misfits[best_tags.name] else "every row"
    choice.take_column(
        "tags", best_tags.name, f"as long as {words} in {matching_rows}, {best_tags.distinct} distinct values"
    )
    if misfits[best_tags.name]:
        choice.notes.append(f"some rows have more or fewer {best_tags.name} than {words}; the contract refuses them")
    if others := [profile.name for profile in fitting if profile is not best_tags]:
        choice.notes.append(f"{', '.join(others)} could be the tags as well; --label COL picks another")


def _count_misfits(lengths: Sequence[int], other_lengths: Sequence[int]) -> int:
    """Return the least number of rows whose lengths can differ."""
    return max((Counter(lengths) - Counter(other_lengths)).total(), (Counter(other_lengths) - Counter(lengths)).total())


def has_tags_between_spaces(
    profiles: Sequence[Profile], columns: Mapping[str, Sequence[object]], words: str | None, tags: str | None
) -> bool:
    """Whether a column holds tags between spaces, as many in each row as another column has words.

    Args:
        profiles: of all columns.
        columns: name -> cells.
        words: the column of the words, if a person named it.
        tags: the column of the tags, if a person named it.
    """
    texts = [profile for profile in profiles if not profile.is_list and profile.filled and profile.words >= FREE_TEXT]
    tagged = [profile for profile in texts if _are_tags({tag for value in profile.counts for tag in value.split()})]
    for tag_column, word_column in itertools.product(tagged, texts):
        is_named = tags in {None, tag_column.name} and words in {None, word_column.name}
        if tag_column is word_column or not is_named:
            continue
        tag_counts = _count_words(columns[tag_column.name])
        word_counts = _count_words(columns[word_column.name])
        if _count_misfits(tag_counts, word_counts) <= MISFITS * tag_column.rows:
            return True
    return False


def _count_words(cells: Sequence[object]) -> list[int]:
    return [len(str(cell or "").split()) for cell in cells]


def _are_tags(words: Set[str]) -> bool:
    return "O" in words and all(TAG.fullmatch(word) for word in words)


def _rank_words(profile: Profile) -> tuple[int, int]:
    lower = profile.name.lower()
    return WORD_NAMES.index(lower) if lower in WORD_NAMES else len(WORD_NAMES), -profile.distinct


def _rank_tags(profile: Profile) -> tuple[int, int]:
    lower = profile.name.lower()
    return TAG_NAMES.index(lower) if lower in TAG_NAMES else len(TAG_NAMES), profile.distinct


def _pick_id(choice: Choice, rest: Sequence[Profile]) -> None:
    named = [profile for profile in rest if ID_NAME.fullmatch(profile.name) and not GROUP_NAME.fullmatch(profile.name)]
    best = min(named, key=lambda profile: profile.repeats, default=None)
    if best is None or best.repeats > MOST_REPEATS * best.rows:
        return
    uniqueness = "unique in nearly every row" if best.repeats else "unique"
    choice.take_column("id", best.name, f"{uniqueness}; a changed row replaces its older version")
    if best.repeats:
        choice.notes.append(f"rows without a {best.name} of their own: {best.repeats}; the contract refuses them")
    if _counts_up(best):
        choice.notes.append(
            f"{best.name} counts up from {min(map(int, best.counts))}. If another file starts there too, its rows "
            "replace these; in that case remove `id` from data.columns"
        )


def _counts_up(profile: Profile) -> bool:
    if not all(value.isdecimal() for value in profile.counts):
        return False
    numbers = [int(value) for value in profile.counts]
    return min(numbers) in {0, 1} and max(numbers) - min(numbers) == len(numbers) - 1


def _pick_timestamp(choice: Choice, rest: Sequence[Profile]) -> None:
    dated = [
        profile
        for profile in rest
        if profile.dated >= 0.95 and (profile.numeric < 0.5 or TIME_NAME.fullmatch(profile.name))
    ]
    dated.sort(key=lambda profile: "creat" not in profile.name.lower())
    if dated:
        choice.take_column("timestamp", dated[0].name, "dates or times; they order the versions of a row")
    if len(dated) > 1:
        others = ", ".join(profile.name for profile in dated[1:])
        choice.notes.append(f"{others}: dates or times too; data.columns.timestamp picks another column")


def _pick_group(choice: Choice, rest: Sequence[Profile]) -> None:
    for profile in rest:
        if not GROUP_NAME.fullmatch(profile.name) or profile.distinct < 5 or profile.distinct == profile.filled:
            continue
        if profile.counts.most_common(1)[0][1] > LARGEST_GROUP * profile.filled:
            choice.notes.append(
                f"{profile.name} is not used as group: one value has over {LARGEST_GROUP:.0%} of the rows"
            )
            continue
        choice.take_column(
            "group", profile.name, f"{profile.distinct} values that repeat; all rows of a value get the same split"
        )
        return


def _suggest_column(column: str, profiles: Sequence[Profile]) -> str:
    names = [profile.name for profile in profiles]
    near = difflib.get_close_matches(column, names, 1, 0.5)
    columns = f"columns: {', '.join(names)}"
    return f"did you mean {near[0]}? {columns}" if near else columns


def _pick_error(role: str, name: str, profiles: Sequence[Profile]) -> DataError:
    flags = "name the columns with --text COL and --label COL"
    lines = [f"  {profile.name}: {profile.describe()}" for profile in profiles]
    return DataError("\n".join([f"{name}: cannot tell which column is the {role}; {flags}. The columns:", *lines]))
