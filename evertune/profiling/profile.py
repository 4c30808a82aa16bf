"""Looks at rows of unknown kind and guesses what a recipe needs to know about them, with reasons."""

import difflib
from collections import Counter
from pathlib import Path
from types import ModuleType

from evertune.data.sources.formats import cells
from evertune.errors import ConfigError, DataError
from evertune.objectives import TABLE, module
from evertune.profiling import column_choice as choose
from evertune.profiling.column_profile import Profile, profile, word_profile
from evertune.profiling.contract_check import tried
from evertune.profiling.guess import Guess
from evertune.profiling.read import Rows, check_columns, read
from evertune.profiling.recipe_writer import recipe_text
from evertune.profiling.role_columns import by_role

__all__ = ["Guess", "inspect", "recipe_text", "tried"]


def inspect(path: str | Path, objective: str | None = None, text: str | None = None, label: str | None = None) -> Guess:
    """The objective and the columns that a file, a folder or a glob of files seems made for.

    Args:
        path: relative to the working folder.
        objective: given, it is not guessed.
        text: column of the input (of the words, for token classification), given.
        label: column of the target, given.
    Raises:
        ConfigError: no such objective.
        DataError: the rows cannot be read, a column cannot be picked (it says what each looks like) or a file lacks it.
    """
    if objective is not None and objective not in TABLE:
        near = difflib.get_close_matches(objective, TABLE, 1, 0.3)
        raise ConfigError(f"--objective {objective}: no such objective; {f'did you mean {near[0]}? ' if near else ''}"
                          f"There are {', '.join(TABLE)}")  # fmt: skip
    rows = read(Path(path), plain=objective is not None and tuple(module(objective).COLUMNS) == ("text",))
    if objective is not None and tuple(module(objective).COLUMNS) not in choose.PICKED:
        profiles = [profile(name, values, lists=False) for name, values in rows.columns.items()]
        choice = by_role(rows.name, profiles, module(objective), text, label)
    else:
        objective, profiles = _profiles(rows, objective, (text, label))
        choice = choose.choose(rows.name, profiles, objective, text, label)
    check_columns(rows, choice.columns)
    return _guess(rows, objective, choice, profiles)


def _profiles(rows: Rows, objective: str | None, given: tuple[str | None, str | None]) -> tuple[str, list[Profile]]:
    try:
        profiles = [profile(name, values) for name, values in rows.columns.items()]
        lists = sum(one.is_list for one in profiles)
        if objective is None:
            tags = lists > 1 or choose.tags_between_spaces(profiles, rows.columns, *given)
            objective = "token-classification" if tags else "text-classification"
            if any(one.is_picture for one in profiles):
                objective = "image-classification"
        if objective == "token-classification" and lists < 2:
            profiles = [
                word_profile(one.name, rows.columns[one.name]) if one.words >= choose.FREE_TEXT else one
                for one in profiles
            ]
        return objective, profiles
    except ValueError as error:
        raise DataError(f"{rows.name}: a column of lists {error}; mend that cell") from error


def _guess(rows: Rows, objective: str, choice: choose.Choice, profiles: list[Profile]) -> Guess:
    by_name = {one.name: one for one in profiles}
    made = module(objective)
    source, target = choice.columns[made.INPUTS[0]], choice.columns[made.TARGET]
    counts = _labels(rows, made, by_name[target]) if made.LABELED else {}
    notes = [*choice.notes, *_warnings(counts, by_name[target].is_list), *rows.notes]
    return Guess(
        objective, choice.columns, choice.why, counts, _lengths(by_name[source]),
        by_name[source].rows + rows.unreadable, rows.encoding, tuple(notes), format=rows.files[0].format,
    )  # fmt: skip


def _labels(rows: Rows, objective: ModuleType, target: Profile) -> dict[str, int]:
    """Label -> how many rows have it; of tags how many words."""
    if objective.COLUMNS[objective.TARGET] != "labels":
        return dict(target.counts.most_common())
    each = Counter(label for cell in rows.columns[target.name] for label in cells.labels(cell) or ())
    return dict(each.most_common())


def _lengths(one: Profile) -> dict[str, float]:
    at = one.lengths
    return {
        "min": at[0],
        "median": at[len(at) // 2],
        "p95": at[min(len(at) - 1, len(at) * 95 // 100)],
        "max": at[-1],
        "mean": round(one.mean_length, 1),
    }


def _warnings(counts: dict[str, int], lists: bool) -> list[str]:
    notes = []
    single = [label for label, count in counts.items() if count == 1]
    if single and not lists:
        shown = ", ".join(repr(one) for one in single[:5]) + (" ..." if len(single) > 5 else "")
        notes.append(
            f"labels with one row: {shown}; they are refused as slips, unless contract.label.values lists them"
        )
    if len(counts) == 1:
        notes.append(f"there is one label only, {next(iter(counts))!r}: a classifier needs at least two")
    return notes
