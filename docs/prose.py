"""Checks how easy tutorials and how-to guides are to read: share of code, length of paragraphs and sentences."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

GUIDES = ("tutorial", "how-to")  # folders of docs/
MIN_CODE_SHARE = 10  # lines of code for 100 words of prose
MAX_PARAGRAPH_WORDS = 60
MAX_SENTENCE_WORDS = 35
FENCE = re.compile(r"^( *)(```+)[^\n]*\n(.*?)^\1\2 *$", re.DOTALL | re.MULTILINE)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
SENTENCE_END = re.compile(r"(?<=[.!?:])\s+(?=[A-Z`*(])")


def problems(path: Path, text: str) -> Iterator[str]:
    """Yield a problem for too little code in a guide, and for each paragraph or sentence that is too long.

    Only guides are checked, and the sentences of the README.

    Args:
        path: the page, relative to the project's root.
        text: the page's Markdown.
    """
    is_guide = find_section(path) in GUIDES
    if is_guide:
        share = code_share(text)
        if share < MIN_CODE_SHARE:
            yield f"{share:.1f} lines of code for 100 words, fewer than {MIN_CODE_SHARE}"
        for paragraph in split_paragraphs(text):
            words = len(paragraph.split())
            if words > MAX_PARAGRAPH_WORDS:
                yield f"a paragraph of {words} words, more than {MAX_PARAGRAPH_WORDS}: {shorten_text(paragraph)}"
    if is_guide or path == Path("README.md"):
        for sentence in split_sentences(text):
            words = len(sentence.split())
            if words > MAX_SENTENCE_WORDS:
                yield f"a sentence of {words} words, more than {MAX_SENTENCE_WORDS}: {shorten_text(sentence)}"


def summarize_code_shares(root: Path, paths: Iterable[Path]) -> str:
    """Return one line with the code share of each section of the site."""
    section_texts: dict[str, list[str]] = {}
    for path in paths:
        section = find_section(path.relative_to(root))
        section_texts.setdefault(section, []).append(path.read_text(encoding="utf-8"))
    shares = []
    for section, texts in sorted(section_texts.items()):
        if section:
            share = code_share("\n\n".join(texts))
            shares.append(f"{section} {share:.1f}")
    return f"lines of code for 100 words: {', '.join(shares)}"


def find_section(path: Path) -> str:
    """Return the section of a page, which is its folder below docs/, or "" for a page outside of these folders."""
    is_in_section = path.parts[0] == "docs" and len(path.parts) > 2
    return path.parts[1] if is_in_section else ""


def code_share(text: str) -> float:
    """Return how many lines of code a page has for 100 words of prose.

    Blank lines of code do not count; words in tables do.
    """
    lines = 0
    for _, _, block in FENCE.findall(text):
        lines += sum(bool(line.strip()) for line in block.splitlines())
    prose = re.sub(r"^ *\||[|]| -{3,}", " ", extract_prose(text), flags=re.MULTILINE)
    words = len(prose.split())
    return 100 * lines / max(words, 1)


def extract_prose(text: str) -> str:
    """Return a page without code blocks, comments, headings and the addresses of links."""
    text = FENCE.sub("", text)
    text = COMMENT.sub("", text)
    text = re.sub(r"^#+ .*$", "", text, flags=re.MULTILINE)
    return LINK.sub(r"\1", text)


def split_paragraphs(text: str) -> Iterator[str]:
    """Yield each paragraph on one line. An item of a list is a paragraph of its own; tables are left out."""
    text = re.sub(r"^ *\|.*$", "", extract_prose(text), flags=re.MULTILINE)
    text = re.sub(r"^ *(?:[-*]|\d+\.|!!!|\?\?\?) ", "\n", text, flags=re.MULTILINE)
    for paragraph in re.split(r"\n\s*\n", text):
        if paragraph.strip():
            yield " ".join(paragraph.split())


def split_sentences(text: str) -> Iterator[str]:
    """Yield the sentences of all paragraphs."""
    for paragraph in split_paragraphs(text):
        yield from SENTENCE_END.split(paragraph)


def shorten_text(text: str) -> str:
    """Return the first words of a text, short enough to quote in a message."""
    return text if len(text) < 90 else text[:90].rsplit(" ", 1)[0] + " ..."
