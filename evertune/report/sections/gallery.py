"""What the models drew for some test rows, beside the true pictures."""

from typing import Any

from evertune.report.html import Html, build_note, escape, join_parts, show_data

Json = dict[str, Any]
DRAWN = ("true", "challenger", "champion")


def render_gallery(details: Json) -> Html:
    """A grid of the pictures; nothing where the objective draws none."""
    rows = details.get("gallery") or []
    if not rows:
        return Html("")
    names = [name for name in DRAWN if name in rows[0]]
    caption = build_note(f"{len(rows)} test rows, evenly spaced; of each from left to right: {', '.join(names)}.")
    return join_parts(
        caption, Html(f'<div class="gallery">{join_parts(*(_render_tile(row, names) for row in rows))}</div>')
    )


def _render_tile(row: Json, names: list[str]) -> Html:
    caption = Html(f"<figcaption>{escape(row['caption'])}</figcaption>" if row["caption"] else "")
    return Html(f'<figure class="tile">{join_parts(*(show_data(row[name]) for name in names))}{caption}</figure>')
