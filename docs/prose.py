"""How tutorials and how-to guides read: their share of code, and the length of paragraphs and sentences."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

GUIDES = ("tutorial", "how-to")  # folders of docs/
CODE_SHARE = 10  # lines of code for 100 words of prose, at least
PARAGRAPH, SENTENCE = 60, 35  # words, at most
FENCE = re.compile(r"^( *)(```+)[^\n]*\n(.*?)^\1\2 *$", re.DOTALL | re.MULTILINE)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
END = re.compile(r"(?<=[.!?:])\s+(?=[A-Z`*(])")


def problems(path: Path, text: str) -> Iterator[str]:
    """What reads badly on a page; `path` is relative to the project's root."""
    if part_of(path) in GUIDES:
        if (share := code_share(text)) < CODE_SHARE:
            yield f"{share:.1f} lines of code for 100 words, fewer than {CODE_SHARE}"
        for paragraph in paragraphs(text):
            if (words := len(paragraph.split())) > PARAGRAPH:
                yield f"a paragraph of {words} words, more than {PARAGRAPH}: {shortened(paragraph)}"
    if part_of(path) in GUIDES or path == Path("README.md"):
        for sentence in sentences(text):
            if (words := len(sentence.split())) > SENTENCE:
                yield f"a sentence of {words} words, more than {SENTENCE}: {shortened(sentence)}"


def summary(root: Path, pages: Iterable[Path]) -> str:
    """The code share of each part of the site."""
    parts: dict[str, list[str]] = {}
    for page in pages:
        parts.setdefault(part_of(page.relative_to(root)), []).append(page.read_text(encoding="utf-8"))
    shares = {part: code_share("\n\n".join(texts)) for part, texts in sorted(parts.items()) if part}
    return "lines of code for 100 words: " + ", ".join(f"{part} {share:.1f}" for part, share in shares.items())


def part_of(path: Path) -> str:
    """The part of the site that a page belongs to: its folder below docs/, or nothing."""
    return path.parts[1] if path.parts[0] == "docs" and len(path.parts) > 2 else ""


def code_share(text: str) -> float:
    """Lines within fences, blank ones aside, for 100 words outside of them, tables included."""
    lines = sum(bool(line.strip()) for _, _, block in FENCE.findall(text) for line in block.splitlines())
    words = len(re.sub(r"^ *\||[|]| -{3,}", " ", outside(text), flags=re.MULTILINE).split())
    return 100 * lines / max(words, 1)


def outside(text: str) -> str:
    """The page without code blocks, comments, headings and the addresses of links."""
    text = COMMENT.sub("", FENCE.sub("", text))
    return LINK.sub(r"\1", re.sub(r"^#+ .*$", "", text, flags=re.MULTILINE))


def paragraphs(text: str) -> Iterator[str]:
    """Runs of lines; each item of a list is one of its own, tables are none."""
    text = re.sub(r"^ *\|.*$", "", outside(text), flags=re.MULTILINE)
    text = re.sub(r"^ *(?:[-*]|\d+\.|!!!|\?\?\?) ", "\n", text, flags=re.MULTILINE)
    yield from (" ".join(one.split()) for one in re.split(r"\n\s*\n", text) if one.strip())


def sentences(text: str) -> Iterator[str]:
    """The sentences of all paragraphs."""
    for paragraph in paragraphs(text):
        yield from END.split(paragraph)


def shortened(text: str) -> str:
    """The beginning of a text, for a message."""
    return text if len(text) < 90 else text[:90].rsplit(" ", 1)[0] + " ..."
