"""Infer from rows of unknown kind what a recipe needs to know about them, with reasons."""

import difflib
from collections import Counter
from pathlib import Path

from evertune.data.sources.formats import cells
from evertune.errors import ConfigError, DataError
from evertune.objectives import TABLE, Objective, load_objective
from evertune.profiling import column_choice
from evertune.profiling.column_profile import Profile, profile_column, profile_words
from evertune.profiling.contract_check import try_contract
from evertune.profiling.guess import Guess
from evertune.profiling.read import Table, check_columns, read_files
from evertune.profiling.recipe_writer import render_recipe
from evertune.profiling.role_columns import choose_by_role

__all__ = ["Guess", "inspect_data", "render_recipe", "try_contract"]


def inspect_data(
    path: str | Path, objective: str | None = None, text: str | None = None, label: str | None = None
) -> Guess:
    """Infer the objective and the columns from a file, a folder or a glob of files.

    Args:
        path: relative to the working folder.
        objective: its name. Default: inferred.
        text: column of the input (of the words, for token classification). Default: inferred.
        label: column of the target. Default: inferred.
    Raises:
        ConfigError: no such objective.
        DataError: the rows cannot be read, a column cannot be picked, or a file lacks it.
    """
    if objective is not None and objective not in TABLE:
        near = difflib.get_close_matches(objective, TABLE, 1, 0.3)
        raise ConfigError(
            f"--objective {objective}: no such objective; {f'did you mean {near[0]}? ' if near else ''}"
            f"Objectives: {', '.join(TABLE)}"
        )
    rows = read_files(Path(path), plain=objective is not None and tuple(load_objective(objective).COLUMNS) == ("text",))
    if objective is not None and tuple(load_objective(objective).COLUMNS) not in column_choice.PICKED:
        profiles = [profile_column(name, values, with_lists=False) for name, values in rows.columns.items()]
        choice = choose_by_role(rows.name, profiles, load_objective(objective), text, label)
    else:
        objective, profiles = _profile_columns(rows, objective, (text, label))
        choice = column_choice.choose_columns(rows.name, profiles, objective, text, label)
    check_columns(rows, choice.columns)
    return _make_guess(rows, objective, choice, profiles)


def _profile_columns(
    rows: Table, objective: str | None, given_columns: tuple[str | None, str | None]
) -> tuple[str, list[Profile]]:
    try:
        profiles = [profile_column(name, values) for name, values in rows.columns.items()]
        lists = sum(column.is_list for column in profiles)
        if objective is None:
            tags = lists > 1 or column_choice.has_tags_between_spaces(profiles, rows.columns, *given_columns)
            objective = "token-classification" if tags else "text-classification"
            if any(column.is_picture for column in profiles):
                objective = "image-classification"
        if objective == "token-classification" and lists < 2:
            profiles = [
                profile_words(column.name, rows.columns[column.name])
                if column.words >= column_choice.FREE_TEXT
                else column
                for column in profiles
            ]
        return objective, profiles
    except ValueError as error:
        raise DataError(f"{rows.name}: a column of lists {error}; correct that cell") from error


def _make_guess(rows: Table, objective: str, choice: column_choice.Choice, profiles: list[Profile]) -> Guess:
    by_name = {column.name: column for column in profiles}
    objective_module = load_objective(objective)
    source = choice.columns[objective_module.INPUTS[0]]
    target = choice.columns[objective_module.TARGET]
    counts = _count_labels(rows, objective_module, by_name[target]) if objective_module.LABELED else {}
    notes = [*choice.notes, *_make_warnings(counts, by_name[target].is_list), *rows.notes]
    return Guess(
        objective,
        choice.columns,
        choice.why,
        counts,
        _summarize_lengths(by_name[source]),
        by_name[source].rows + rows.unreadable,
        rows.encoding,
        tuple(notes),
        format=rows.files[0].format,
    )


def _count_labels(rows: Table, objective: Objective, target: Profile) -> dict[str, int]:
    """Count the rows of each label; for tags the words."""
    if objective.COLUMNS[objective.TARGET] != "labels":
        return dict(target.counts.most_common())
    counts = Counter(label for cell in rows.columns[target.name] for label in cells.parse_labels(cell) or ())
    return dict(counts.most_common())


def _summarize_lengths(column: Profile) -> dict[str, float]:
    lengths = column.lengths
    return {
        "min": lengths[0],
        "median": lengths[len(lengths) // 2],
        "p95": lengths[min(len(lengths) - 1, len(lengths) * 95 // 100)],
        "max": lengths[-1],
        "mean": round(column.mean_length, 1),
    }


def _make_warnings(counts: dict[str, int], lists: bool) -> list[str]:
    notes = []
    single = [label for label, count in counts.items() if count == 1]
    if single and not lists:
        shown = ", ".join(repr(label) for label in single[:5]) + (" ..." if len(single) > 5 else "")
        notes.append(
            f"labels with one row: {shown}; their rows are refused as mistakes, unless contract.label.values lists them"
        )
    if len(counts) == 1:
        notes.append(f"{next(iter(counts))!r} is the only label; a classifier needs at least two")
    return notes
