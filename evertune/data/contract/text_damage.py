"""Patterns of damaged text: mojibake and control characters. They work in RE2 and in Python's `re`.

Mojibake is UTF-8 that was read as Windows-1252 (or Latin-1): a lead byte shows as one of `Ã Â â ð ...`, the bytes after
it as characters that no alphabet has in that place. Characters that do follow such letters in undamaged text, as the
quotation marks in “MAÇÃ”, count as damage only next to a lower-case letter.
"""
# ruff: noqa: RUF001, RUF003  look-alike characters are what this file is about

import re

# U+0080 to U+00BF as UTF-8's continuation bytes: read as Latin-1 (themselves) or as Windows-1252 (from € to Ÿ)
CONTINUATION = "\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"
# ... less those that may follow a letter: quotation marks, dashes, ellipsis, bullet, no-break space, soft hyphen, dot
STRONG = "\u0080-\u009f¡¢£¤¥¦§¨©ª«¬®¯°±²³´µ¶¸¹º¼½¾¿€‚ƒ†‡ˆ‰Š‹ŒŽ˜™š›œžŸ"
WEAK = "–—”“„’»…·\u00a0\u00ad"
LOWER = "[a-zß-öø-ÿ]"
NO_LETTER = "(?:^|[^A-Za-zÀ-ÖØ-öø-ÿ])"

MOJIBAKE = (
    f"[ÃÂÄÅ][{STRONG}]",  # Ã© é, Â´ ´, Ä± ı, Å‚ ł
    f"{LOWER}[ÃÂÄÅ][{WEAK}]",  # fÃ»t, cÅ“ur
    f"{NO_LETTER}[ÃÅ][{WEAK}]{LOWER}",  # Ã–l, Å“uvre
    f"{NO_LETTER}Ã[\u00a0\u00ad]",  # à alone
    "[0-9]Â[\u00a0»·]",  # 5Â €
    f"â(?:€|[‚„†‡ˆ‰Œœ˜™š\u0080-\u009f])[{CONTINUATION}]",  # â€™ ’, â‚¬ €, â„¢ ™, âœ“ ✓
    f"â[€][^{CONTINUATION}]",  # its third byte lost: â€"
    f"á[º»][{STRONG}]",  # Vietnamese: áº¿ ế, á»‡ ệ
    f"à[¤-¹][{STRONG}]",  # scripts of India, Thai
    f"(?:[ÐÑ][{CONTINUATION}]){{2}}",  # Cyrillic
    f"(?:[ãäåæçèé][{CONTINUATION}]{{2}}){{2}}",  # Chinese, Japanese
    "ðŸ",  # emoji
    "ï»¿",  # a byte order mark
)
DAMAGE = "\ufffd|" + "|".join(f"(?:{pattern})" for pattern in MOJIBAKE)
CONTROL = "[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f]"  # C0 without tab, newline and return; DEL; C1
# Any character but blanks; without `\s` and `$` Arrow can search for it, faster than Python row by row.
SIGN = "[^\\t-\\r \\x1c-\\x1f\\x85\u00a0\u1680\u2000-\u200d\u2028\u2029\u202f\u205f\u2060\u3000\ufeff]"


def find_first(pattern: str, text: str) -> str:
    """Return the first match of `pattern` in `text` in readable form, control characters as U+0007."""
    match = re.search(pattern, text)
    matched_text = "" if match is None else match.group()
    return "".join(character if character.isprintable() else f"U+{ord(character):04X}" for character in matched_text)
