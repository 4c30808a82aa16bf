"""Pick columns by the names of an objective's roles, where their contents do not show which is which."""

from collections.abc import Sequence

from evertune.errors import DataError
from evertune.objectives import Objective
from evertune.profiling.column_choice import Choice, add_key_columns
from evertune.profiling.column_profile import Profile

ALIASES = {  # role -> other names of such columns
    "text": (
        "source",
        "document",
        "article",
        "message",
        "body",
        "content",
        "sentence",
        "sentence1",
        "text_a",
        "premise",
    ),
    "text_pair": ("text2", "sentence2", "text_b", "hypothesis"),
    "prompt": ("instruction", "question", "input", "messages", "query"),
    "answer": ("response", "reply", "output", "completion", "answers"),
    "target": ("summary", "translation", "output", "target_text"),
    "context": ("passage", "paragraph", "document"),
    "score": ("similarity", "similarity_score", "rating"),
    "labels": ("tags", "topics", "categories"),
    "label": ("labels", "class", "category", "intent"),
}


def choose_by_role(
    name: str, profiles: Sequence[Profile], objective: Objective, given_input: str | None, given_target: str | None
) -> Choice:
    """Pick the columns of all roles by their names, and those of id, timestamp and group by their contents.

    Args:
        name: the file, for messages.
        profiles: of all columns.
        objective: its module.
        given_input: column of the first input, if a person named it.
        given_target: column of the target, if a person named it.
    Raises:
        DataError: a named column does not exist, or no column has the name of a role.
    """
    choice = Choice()
    names = [profile.name for profile in profiles]
    given_columns = {objective.TARGET: ("--label", given_target), objective.INPUTS[0]: ("--text", given_input)}
    for role in objective.COLUMNS:
        flag, column = given_columns.get(role, ("", None))
        if column is not None and column not in names:
            raise DataError(f"{flag} {column}: no such column in {name}; columns: {', '.join(names)}")
        free_columns = [candidate for candidate in names if candidate not in choice.columns.values()]
        picked = column or _find_called(role, free_columns)
        if picked is None:
            raise DataError(_describe_missing(role, flag, name, profiles))
        choice.take_column(role, picked, "given" if column else "its name")
    add_key_columns(choice, profiles)
    return choice


def _find_called(role: str, names: Sequence[str]) -> str | None:
    """Return the column with the name of the role, or else with the first of its other names."""
    lower = {name.lower(): name for name in reversed(names)}
    return next((lower[alias] for alias in (role, *ALIASES.get(role, ())) if alias in lower), None)


def _describe_missing(role: str, flag: str, name: str, profiles: Sequence[Profile]) -> str:
    advice = f"name it with {flag} COL" if flag else f"rename it, or map it in data.columns.{role} of a recipe"
    lines = [f"  {profile.name}: {profile.describe()}" for profile in profiles]
    return "\n".join([f"{name}: no column is named {role}; {advice}. The columns:", *lines])
