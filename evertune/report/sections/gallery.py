"""What the models drew for some test rows, beside the true pictures."""

from typing import Any

from evertune.report.html import Html, join, note, seen, text

Json = dict[str, Any]
DRAWN = ("true", "challenger", "champion")


def gallery(details: Json) -> Html:
    """A grid of the pictures; nothing where the objective draws none."""
    found = details.get("gallery") or []
    if not found:
        return Html("")
    names = [name for name in DRAWN if name in found[0]]
    told = note(f"{len(found)} test rows, evenly spaced; of each from left to right: {', '.join(names)}.")
    return join(told, Html(f'<div class="gallery">{join(*(_tile(one, names) for one in found))}</div>'))


def _tile(one: Json, names: list[str]) -> Html:
    caption = Html(f"<figcaption>{text(one['caption'])}</figcaption>" if one["caption"] else "")
    return Html(f'<figure class="tile">{join(*(seen(one[name]) for name in names))}{caption}</figure>')
