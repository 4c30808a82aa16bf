"""Pages, samples and logs that show forgotten texts: the text is taken out, or where that fails, the page."""

import csv
import html
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from evertune.data.text_matching import Texts
from evertune.data.thumbnails import URI
from evertune.runtime.files import write_atomic
from evertune.runtime.home import Home

GONE = "[forgotten]"
INSTEAD = "<!doctype html><meta charset=utf-8><p>This page was removed: it showed rows that were forgotten since.\n"
SAMPLE = "parity.json"  # inputs beside predictions: a pair goes as a whole
# What Evertune goes by, and where no text stands: a label may be called as a short text is.
RECORDS = (
    "state.json", "labels.json", "label_counts.json", "run.json", "candidate.json", "evaluation.json", "sent.json",
    "recipe.json", "environment.json", "ledger.jsonl", "history.jsonl", "steps.jsonl",
)  # fmt: skip
EXAMPLES = ("changed", "samples", "gallery")  # of `details.json`: a row goes as a whole
LONGEST = 5000  # signs between two tags of a page that can be text; more is a script
EXAMPLE = re.compile(r'<tr\b(?:(?!<tr\b).)*?</tr>|<figure class="tile">.*?</figure>', re.DOTALL)
CELL = re.compile(r"<(?:t[hd]|figcaption)\b[^>]*>(.*?)</(?:t[hd]|figcaption)>", re.DOTALL)
SEEN = re.compile(r'class="(words|thumbnail)"')  # see `report.pieces.seen`


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

    def told(match: "re.Match[str]") -> str:
        return GONE if len(match[0]) <= LONGEST and texts.shows(html.unescape(match[0])) else match[0]

    after = EXAMPLE.sub(lambda match: _example(match[0], texts), before)
    after = URI.sub(lambda match: "" if texts.is_picture(match[0]) else match[0], after)
    after = re.sub(r"(?<=>)[^<>]+", told, after)
    return INSTEAD if texts.within(_words(after) + html.unescape(after)) else after


def _words(markup: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", markup))


def _example(shown: str, texts: Texts) -> str:
    """A row of the report's, or a tile: all of it goes, what the models said of a forgotten row too."""
    if not SEEN.search(shown):
        return shown
    cells = [_words(cell) for cell in CELL.findall(shown)]
    together = " ".join(cells[:2])  # what was given and what was wanted: of a short text neither tells it
    if not any(map(texts.shows, [*cells, together])) and not any(map(texts.is_picture, URI.findall(shown))):
        return shown
    if shown.startswith("<tr"):
        return CELL.sub(lambda cell: cell[0].replace(f">{cell[1]}</", f">{GONE}</"), shown)
    return f'<figure class="tile"><figcaption>{GONE}</figcaption></figure>'


def _json(before: str, texts: Texts, path: Path) -> str:
    try:
        tree = json.loads(before)
    except ValueError:
        return _lines(before, texts, path)
    after = _sample(tree, texts) if path.name == SAMPLE else _pruned(tree, texts)
    return before if after == tree else json.dumps(after, indent=1, ensure_ascii=False) + "\n"


def _sample(tree: dict[str, Any], texts: Texts) -> dict[str, Any]:
    """Inputs and predictions without the pairs that tell a forgotten row; nobody has cut the inputs."""
    several = isinstance(tree.get("role"), list)

    def stays(given: Any, said: Any) -> bool:
        inputs = [_text(given), *(map(_text, given) if several else ())]
        return not any(map(texts.is_whole, inputs)) and not any(map(texts.shows, _strings(said.values())))

    keep = [pair for pair in zip(tree["inputs"], tree["predictions"], strict=True) if stays(*pair)]
    return {**tree, "inputs": [given for given, _ in keep], "predictions": [said for _, said in keep]}


def _pruned(tree: Any, texts: Texts) -> Any:
    """The tree with each forgotten text replaced; a list of words is one text too."""
    if isinstance(tree, str):
        return GONE if texts.shows(tree) else tree
    if isinstance(tree, dict):
        return {key: _pruned(_others(value, texts) if key in EXAMPLES else value, texts) for key, value in tree.items()}
    if isinstance(tree, list):
        found = [_pruned(one, texts) for one in tree]
        words = found == tree and bool(tree) and all(isinstance(one, str) for one in tree)
        return [GONE] if words and texts.shows(_text(tree)) else found
    return tree


def _others(rows: Any, texts: Texts) -> Any:
    """The report's rows without those of which any part shows a text."""
    if not isinstance(rows, list) or not all(isinstance(one, dict) for one in rows):
        return rows
    return [one for one in rows if not any(map(texts.shows, [*_strings(one.values()), _together(one)]))]


def _together(row: dict[str, Any]) -> str:
    return f"{row.get('input', '')} {row.get('target', '')}"


def _strings(values: Iterable[Any]) -> list[str]:
    return [one for one in values if isinstance(one, str)]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else " ".join(map(str, value or ()))


def _json_lines(before: str, texts: Texts, path: Path) -> str:
    """Rows, such as of a file that was scored; one that shows a text goes as a whole."""

    def stays(line: str) -> bool:
        return not line.strip() or _json(line, texts, path) == line

    return "".join(filter(stays, io.StringIO(before)))  # `splitlines` would cut texts at signs such as U+2028


def _cells(before: str, texts: Texts, path: Path) -> str:
    """As `_json_lines`."""
    between = "\t" if path.suffix == ".tsv" else ","
    try:
        rows = list(csv.reader(io.StringIO(before, newline=""), delimiter=between))
    except csv.Error:  # a cell too large, or no CSV at all
        return _lines(before, texts, path)
    after = [row for row in rows if not any(map(texts.shows, row))]
    if len(after) == len(rows):
        return before
    made = io.StringIO(newline="")
    csv.writer(made, delimiter=between).writerows(after)
    return made.getvalue()


def _lines(before: str, texts: Texts, _: Path) -> str:
    def told(line: str) -> str:
        body = line.rstrip("\r\n")
        return GONE + line[len(body) :] if texts.shows(body) else line

    return "".join(map(told, io.StringIO(before)))


KINDS: dict[str, Callable[[str, Texts, Path], str]] = {
    ".html": _page, ".json": _json, ".jsonl": _json_lines, ".csv": _cells, ".tsv": _cells, ".log": _lines,
    ".txt": _lines, ".md": _lines,
}  # fmt: skip
