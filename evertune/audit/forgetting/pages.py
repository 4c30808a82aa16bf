"""Remove forgotten texts from pages, samples and logs; if that fails, remove the page."""

import csv
import html
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from evertune.data.text_matching import TextMatcher
from evertune.data.thumbnails import URI
from evertune.runtime.files import write_atomic
from evertune.runtime.home import Home

if TYPE_CHECKING:
    from evertune.objectives import Input, Prediction
    from evertune.registry.versions.parity import Sample

GONE = "[forgotten]"
INSTEAD = "<!doctype html><meta charset=utf-8><p>This page was removed because it showed rows that were forgotten.\n"
SAMPLE = "parity.json"  # inputs and predictions: a pair is removed as a whole
# Evertune's own state, which has no texts of rows: a label may equal a short text.
RECORDS = (
    "state.json",
    "labels.json",
    "label_counts.json",
    "run.json",
    "candidate.json",
    "evaluation.json",
    "sent.json",
    "recipe.json",
    "environment.json",
    "ledger.jsonl",
    "history.jsonl",
    "steps.jsonl",
)
EXAMPLES = ("changed", "samples", "gallery")  # keys of `details.json`: a row is removed as a whole
MAX_TEXT = 5000  # characters between two tags of a page; longer content is a script
EXAMPLE = re.compile(r'<tr\b(?:(?!<tr\b).)*?</tr>|<figure class="tile">.*?</figure>', re.DOTALL)
CELL = re.compile(r"<(?:t[hd]|figcaption)\b[^>]*>(.*?)</(?:t[hd]|figcaption)>", re.DOTALL)
SEEN = re.compile(r'class="(words|thumbnail)"')  # see `report/templates/macros.html.j2`


def find_pages(home: Home, texts: TextMatcher) -> Iterator[tuple[Path, str]]:
    """Yield the files of the model's home, MLflow's artifacts and logs that show one of the texts, with new content."""
    for path in _find_files(home):
        before = path.read_text(encoding="utf-8", errors="surrogateescape")
        after = KINDS[path.suffix](before, texts, path)
        if after != before:
            yield path, after.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def clean_pages(home: Home, texts: TextMatcher) -> int:
    """Remove the texts from all files that show them, each file atomically, and return the number of files.

    Raises:
        OSError: a file cannot be written.
    """
    count = 0
    for path, after in find_pages(home, texts):
        if path.suffix == ".log":  # a process may hold it open
            path.write_text(after, encoding="utf-8")
        else:
            write_atomic(path, after)
        count += 1
    return count


def _find_files(home: Home) -> Iterator[Path]:
    """Yield the files that may show a text; not the files of models, nor those that forgetting itself keeps."""
    for folder in (home.model, home.root / "mlflow" / "artifacts", home.root / "up"):
        for path in sorted(folder.rglob("*")):
            folders = path.relative_to(folder).parts
            is_internal = {"bundle", "_delta_log", "checkpoints"} & set(folders) or home.forgotten in path.parents
            if path.suffix in KINDS and path.name not in RECORDS and not is_internal and path.is_file():
                yield path


def _clean_page(before: str, texts: TextMatcher, _: Path) -> str:
    """Return a page with each forgotten text replaced; if it still shows one, the whole page is replaced."""

    def redact_match(match: "re.Match[str]") -> str:
        return GONE if len(match[0]) <= MAX_TEXT and texts.matches_value(html.unescape(match[0])) else match[0]

    after = EXAMPLE.sub(lambda match: _clean_example(match[0], texts), before)
    after = URI.sub(lambda match: "" if texts.matches_picture(match[0]) else match[0], after)
    after = re.sub(r"(?<=>)[^<>]+", redact_match, after)
    return INSTEAD if texts.appears_in(_strip_tags(after) + html.unescape(after)) else after


def _strip_tags(markup: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", markup))


def _clean_example(markup: str, texts: TextMatcher) -> str:
    """Return a row or a tile of the report; if its row was forgotten, without any content, predictions included."""
    if not SEEN.search(markup):
        return markup
    cells = [_strip_tags(cell) for cell in CELL.findall(markup)]
    input_and_target = " ".join(cells[:2])  # input and target; of a short text neither alone identifies it
    if not any(map(texts.matches_value, [*cells, input_and_target])) and not any(
        map(texts.matches_picture, URI.findall(markup))
    ):
        return markup
    if markup.startswith("<tr"):
        return CELL.sub(lambda cell: cell[0].replace(f">{cell[1]}</", f">{GONE}</"), markup)
    return f'<figure class="tile"><figcaption>{GONE}</figcaption></figure>'


def _clean_json(before: str, texts: TextMatcher, path: Path) -> str:
    try:
        tree = json.loads(before)
    except ValueError:
        return _clean_lines(before, texts, path)
    after = _clean_sample(cast("Sample", tree), texts) if path.name == SAMPLE else _redact_tree(tree, texts)
    return before if after == tree else json.dumps(after, indent=1, ensure_ascii=False) + "\n"


def _clean_sample(tree: "Sample", texts: TextMatcher) -> "Sample":
    """Return the sample without the pairs of forgotten rows; its inputs are not shortened."""
    has_several_inputs = isinstance(tree.get("role"), list)

    def is_kept(sample_input: "Input", prediction: "Prediction") -> bool:
        inputs = [_join_words(sample_input), *(map(_join_words, sample_input) if has_several_inputs else ())]
        return not any(map(texts.matches_whole, inputs)) and not any(
            map(texts.matches_value, _select_strings(prediction.values()))
        )

    pairs = [pair for pair in zip(tree["inputs"], tree["predictions"], strict=True) if is_kept(*pair)]
    return {
        **tree,
        "inputs": [sample_input for sample_input, _ in pairs],
        "predictions": [prediction for _, prediction in pairs],
    }


def _redact_tree(tree: object, texts: TextMatcher) -> object:
    """Return the tree with each forgotten text replaced; a list of words also counts as one text."""
    if isinstance(tree, str):
        return GONE if texts.matches_value(tree) else tree
    if isinstance(tree, dict):
        return {
            key: _redact_tree(_drop_examples(value, texts) if key in EXAMPLES else value, texts)
            for key, value in tree.items()
        }
    if isinstance(tree, list):
        redacted = [_redact_tree(item, texts) for item in tree]
        is_word_list = redacted == tree and bool(tree) and all(isinstance(item, str) for item in tree)
        return [GONE] if is_word_list and texts.matches_value(_join_words(tree)) else redacted
    return tree


def _drop_examples(rows: object, texts: TextMatcher) -> object:
    """Return the rows of the report without those in which any part shows a text."""
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return rows
    return [
        row for row in rows if not any(map(texts.matches_value, [*_select_strings(row.values()), _join_example(row)]))
    ]


def _join_example(row: Mapping[str, object]) -> str:
    return f"{row.get('input', '')} {row.get('target', '')}"


def _select_strings(values: Iterable[object]) -> list[str]:
    return [value for value in values if isinstance(value, str)]


def _join_words(value: "Input | None") -> str:
    return value if isinstance(value, str) else " ".join(map(str, value or ()))


def _clean_json_lines(before: str, texts: TextMatcher, path: Path) -> str:
    """Return the lines, such as those of a scored file, without the ones that show a text."""

    def is_kept(line: str) -> bool:
        return not line.strip() or _clean_json(line, texts, path) == line

    return "".join(filter(is_kept, io.StringIO(before)))  # `splitlines` would also split at characters such as U+2028


def _clean_cells(before: str, texts: TextMatcher, path: Path) -> str:
    """Return the rows of a CSV or TSV file without the ones that show a text."""
    delimiter = "\t" if path.suffix == ".tsv" else ","
    try:
        rows = list(csv.reader(io.StringIO(before, newline=""), delimiter=delimiter))
    except csv.Error:  # a cell is too large, or this is not CSV
        return _clean_lines(before, texts, path)
    after = [row for row in rows if not any(map(texts.matches_value, row))]
    if len(after) == len(rows):
        return before
    output = io.StringIO(newline="")
    csv.writer(output, delimiter=delimiter).writerows(after)
    return output.getvalue()


def _clean_lines(before: str, texts: TextMatcher, _: Path) -> str:
    def redact_line(line: str) -> str:
        body = line.rstrip("\r\n")
        return GONE + line[len(body) :] if texts.matches_value(body) else line

    return "".join(map(redact_line, io.StringIO(before)))


KINDS: dict[str, Callable[[str, TextMatcher, Path], str]] = {
    ".html": _clean_page,
    ".json": _clean_json,
    ".jsonl": _clean_json_lines,
    ".csv": _clean_cells,
    ".tsv": _clean_cells,
    ".log": _clean_lines,
    ".txt": _clean_lines,
    ".md": _clean_lines,
}
