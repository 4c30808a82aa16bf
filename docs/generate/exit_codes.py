"""Generates docs/reference/exit-codes.md: the exit codes of the command line, from evertune/errors.py."""

# ruff: noqa: E501 (a table cell must stay on one line)

import inspect
from collections.abc import Iterator

from evertune import errors

HEAD = """# Exit codes

A command that ends with 0 did its work, whatever the gate decided. A held or rejected challenger is an outcome, not an error.

```console
$ evertune run my-model.yaml; echo $?
$ evertune run my-model.yaml --json | jq -r .decision
```

| code | meaning | typical cause | what to do |
|---|---|---|---|
| 0 | The command did its work. | `promoted`, `held`, `rejected` or `unchanged` | Read `decision` in the [JSON output](json-output.md). |
"""

# code -> (meaning, typical cause, what to do); where the meaning is "", the error class states it
CODES = {
    1: (
        "An error that Evertune did not foresee.",
        "a bug, or a library's error",
        "Run again with `evertune --debug COMMAND ...` and report the traceback.",
    ),
    2: (
        "",
        "an unknown key, a wrong option, an environment variable that is not set",
        "Run `evertune check RECIPE`: it lists every problem with its path.",
    ),
    3: (
        "",
        "a missing file, too many refused rows, a full disk, no rows to train on",
        "Look at `evertune quarantine RECIPE`; mend the rows, or free some disk space, and run again.",
    ),
    4: (
        "",
        "loss that is not finite, no memory, a teacher that does not fit; `evertune reproduce` found another model",
        "Lower `learning_rate` or `tokens_per_batch`. After a crash, run again: training goes on from the last checkpoint.",
    ),
    5: (
        "",
        "a server that does not answer, no champion yet, another run at work",
        "Check MLFLOW_TRACKING_URI and PREFECT_API_URL; wait for the other run; then run again.",
    ),
    130: ("Interrupted by Ctrl-C.", "a person", "Run again: it goes on from the last finished step."),
}

TAIL = """
## Notes

- All configuration errors are shown at once, each with its path.
- An error is one line on standard error, without a traceback. `evertune --debug` shows the traceback.
- A full disk is code 3, wherever it occurs.
- `evertune monitor` ends with 0 whether rows have drifted or not.
- `evertune check` ends with 3 if a run would stop at these rows, and with 2 if an address in `notify` is not set.
- A process that is killed with `kill -9` ends with 137. The next run goes on where it stopped.

In a script:

```bash
evertune run my-model.yaml --json > outcome.json
case $? in
  0) jq -r '.decision + ": " + .reason' outcome.json ;;
  3) evertune quarantine my-model.yaml ;;
  *) exit 1 ;;
esac
```

## In Python

Each code is an exception class of `evertune.errors`. All derive from `EvertuneError`:

| class | code | meaning |
|---|---|---|
"""


def page() -> str:
    """Return the page as Markdown."""
    return HEAD + "".join(render_codes()) + TAIL + "".join(render_classes())


def render_codes() -> Iterator[str]:
    """Yield the table rows of the exit codes."""
    class_meanings: dict[int, str] = {}
    for error_class in list_error_classes():
        class_meanings.setdefault(error_class.exit_status, read_summary(error_class))  # the most general class counts
    for code, (meaning, cause, advice) in CODES.items():
        yield f"| {code} | {meaning or class_meanings[code]} | {cause} | {advice} |\n"


def render_classes() -> Iterator[str]:
    """Yield the table rows of the exception classes."""
    for error_class in list_error_classes():
        yield f"| `{error_class.__name__}` | {error_class.exit_status} | {read_summary(error_class)} |\n"


def list_error_classes() -> list[type[errors.EvertuneError]]:
    """Return Evertune's exception classes by exit code, base classes before the classes derived from them."""
    classes = [member for _, member in inspect.getmembers(errors, inspect.isclass)]
    error_classes = [member for member in classes if issubclass(member, errors.EvertuneError)]
    return sorted(error_classes, key=lambda error_class: (error_class.exit_status, len(error_class.__mro__)))


def read_summary(error_class: type) -> str:
    """Return the first paragraph of a class's docstring on one line."""
    return inspect.cleandoc(error_class.__doc__ or "").split("\n\n")[0].replace("\n", " ")
