"""Pages, samples and logs that show forgotten texts: the text is taken out, or where that fails, the page."""

import csv
import html
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from evertune.home import Home, write_atomic
from evertune.texts import Texts

GONE = "[forgotten]"
INSTEAD = "<!doctype html><meta charset=utf-8><p>This page was removed: it showed rows that were forgotten since.\n"
SAMPLE = "parity.json"  # inputs beside predictions: a pair goes as a whole
# What Evertune goes by, and where no text stands: a label may be called as a short text is.
RECORDS = (
    "state.json", "labels.json", "label_counts.json", "run.json", "candidate.json", "evaluation.json", "sent.json",
    "recipe.json", "environment.json", "ledger.jsonl", "history.jsonl", "steps.jsonl",
)  # fmt: skip
LONGEST = 5000  # signs between two tags of a page that can be text; more is a script


def showing(home: Home, texts: Texts) -> Iterator[tuple[Path, str]]:
    """Files of the model's home, MLflow's artifacts and logs that show one of the texts, and what they are without."""
    for path in _files(home):
        before = path.read_text(encoding="utf-8", errors="surrogateescape")
        after = KINDS[path.suffix](before, texts, path)
        if after != before:
            yield path, after.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def clean(home: Home, texts: Texts) -> int:
    """Take the texts out of all files that show them, each whole or as it was; gives the number of files."""
    count = 0
    for path, after in showing(home, texts):
        if path.suffix == ".log":  # a process may hold it open
            path.write_text(after, encoding="utf-8")
        else:
            write_atomic(path, after)
        count += 1
    return count


def _files(home: Home) -> Iterator[Path]:
    """What may show a text; not what a model is made of, nor what forgetting itself keeps."""
    for folder in (home.model, home.root / "mlflow" / "artifacts", home.root / "up"):
        for path in sorted(folder.rglob("*")):
            inside = path.relative_to(folder).parts
            own = {"bundle", "_delta_log", "checkpoints"} & set(inside) or home.forgotten in path.parents
            if path.suffix in KINDS and path.name not in RECORDS and not own and path.is_file():
                yield path


def _page(before: str, texts: Texts, _: Path) -> str:
    """A page with each forgotten text replaced; one that still shows a text then is replaced as a whole."""
    found = False

    def told(match: "re.Match[str]") -> str:
        nonlocal found
        shown = html.unescape(match[0])
        if len(match[0]) > LONGEST or not (texts.is_one(shown) or texts.within(shown)):
            return match[0]
        found = True
        return GONE

    after = re.sub(r"(?<=>)[^<>]+", told, before)
    if not found and not texts.within(html.unescape(before)):
        return _if_whole(before, texts)
    return INSTEAD if texts.within(html.unescape(re.sub(r"<[^>]*>", "", after) + after)) else after


def _if_whole(before: str, texts: Texts) -> str:
    """The page, unless a text shows in it once its tags are away."""
    return INSTEAD if texts.within(html.unescape(re.sub(r"<[^>]*>", "", before))) else before


def _json(before: str, texts: Texts, path: Path) -> str:
    try:
        tree = json.loads(before)
    except ValueError:
        return _lines(before, texts, path)
    after = _sample(tree, texts) if path.name == SAMPLE else _pruned(tree, texts)
    return before if after == tree else json.dumps(after, indent=1, ensure_ascii=False) + "\n"


def _sample(tree: dict[str, Any], texts: Texts) -> dict[str, Any]:
    """Inputs and predictions without the pairs of forgotten inputs."""
    keep = [not texts.is_one(_text(one)) for one in tree["inputs"]]
    pairs = {name: [one for one, stays in zip(tree[name], keep, strict=True) if stays]
             for name in ("inputs", "predictions")}  # fmt: skip
    return {**tree, **pairs}


def _pruned(tree: Any, texts: Texts) -> Any:
    """The tree with each forgotten text replaced; a list of words is one text too."""
    if isinstance(tree, str):
        return GONE if texts.is_one(tree) or texts.within(tree) else tree
    if isinstance(tree, dict):
        return {key: _pruned(value, texts) for key, value in tree.items()}
    if isinstance(tree, list):
        words = bool(tree) and all(isinstance(one, str) for one in tree)
        return [GONE] if words and texts.is_one(_text(tree)) else [_pruned(one, texts) for one in tree]
    return tree


def _text(value: Any) -> str:
    return value if isinstance(value, str) else " ".join(map(str, value or ()))


def _json_lines(before: str, texts: Texts, path: Path) -> str:
    """Rows, such as of a file that was scored; one that shows a text goes as a whole."""

    def stays(line: str) -> bool:
        return not line.strip() or _json(line, texts, path) == line

    return "".join(filter(stays, before.splitlines(keepends=True)))


def _cells(before: str, texts: Texts, path: Path) -> str:
    """As `_json_lines`."""
    try:
        rows = list(csv.reader(io.StringIO(before, newline="")))
    except csv.Error:  # a cell too large, or no CSV at all
        return _lines(before, texts, path)
    after = [row for row in rows if not any(texts.is_one(cell) or texts.within(cell) for cell in row)]
    if len(after) == len(rows):
        return before
    made = io.StringIO(newline="")
    csv.writer(made).writerows(after)
    return made.getvalue()


def _lines(before: str, texts: Texts, _: Path) -> str:
    def told(line: str) -> str:
        body = line.rstrip("\r\n")
        return GONE + line[len(body) :] if texts.is_one(body) or texts.within(body) else line

    return "".join(map(told, before.splitlines(keepends=True)))


KINDS: dict[str, Callable[[str, Texts, Path], str]] = {
    ".html": _page, ".json": _json, ".jsonl": _json_lines, ".csv": _cells, ".log": _lines, ".txt": _lines,
    ".md": _lines,
}  # fmt: skip
