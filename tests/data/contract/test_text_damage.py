"""Damaged text is told from honest text, by the patterns and by the suite that runs them."""

import re
from pathlib import Path

import pytest

from evertune.data.contract.text_damage import CONTROL, DAMAGE, find_first
from tests.helpers.contract import GOOD, check, make_rows

HONEST = [
    "L'été, à Besançon, « MÂCHÉ » et « PÂTE » : œuvre, cœur, naïve, Noël… 5\u00a0€ — l’apôtre",
    "NÃO É SÓ A MAÇÃ, IRMÃ… “MAÇÃ” «AMANHû ‘IRMÒ A MANHÖ e a manhã",
    "Tôi muốn biết số dư tài khoản của tôi, ĐÂY LÀ TIẾNG VIỆT: Ẫ Ã Â Á À Ả",
    "Când vine pâinea? ÎNTÂLNIRE ÂNCĂ",
    "På TVÅ – “PÅ” … ÅÄÖ, Ærø, Øst, smørrebrød, Ærøskøbing",
    "Größe, Übergröße, ÄÖÜß „ÄRGER“ — 50\u00a0% · 20\u00a0°C ±2 µm ½ £3 ©®™ §5 ¿Qué? ¡Olé! N.º 1ª",
    "Est-il là ? « voilà » « déjà »… allá»—dijo",
    "Привет, как дела? Здравствуйте! Łódź, żółć, ğüşıİ, Kärcher, Đà Nẵng",
    "日本語のテキスト。中文，你好！ 한국어 ไทย हिन्दी العربية עברית 👍🏽 👨‍👩‍👧 ❤️",
    "tab\there\nnew line\r\n",
    "the letter “Ã”, the letter „Å“, the letters (Ã, Â, Å, Ä) — Å… the river; PÅ“",
    "Ð and ð, þorn: Ísland, góðan daginn, Það er gott",
]
BROKEN = [
    "Straße",
    "café",
    "naïve",
    "déjà vu",
    "fût",
    "Öl",
    "Übung",
    "NOËL",
    "don’t",
    "“quoted”",
    "wait…",
    "a – b",
    "5 €",
    "20 °C",
    "it´s",
    "£5",
    "Łódź",
    "ğ",
    "Tiếng Việt",
    "Привет",
    "你好世界",
    "日本語",
    "👍",
    "™ brand",
    "✓ done",
    "\ufeffstart",
    "हिन्दी",
    "Ångström",
    "für",
    "español",
    "São Paulo",
    "não",
    "5\u00a0€",
    "œuvre",
    "cœur",
    "dû",
    "à la carte",
]


@pytest.mark.parametrize("text", HONEST)
def test_honest_text_is_not_damage(text: str) -> None:
    assert (find_first(DAMAGE, text), find_first(CONTROL, text)) == ("", "")


def as_read_wrongly(text: str) -> str:
    """UTF-8 read as Windows-1252, as browsers and Excel do: bytes without a sign there become controls."""
    return "".join(bytes([byte]).decode("cp1252", errors="ignore") or chr(byte) for byte in text.encode())


@pytest.mark.parametrize("text", BROKEN)
def test_text_that_was_read_in_the_wrong_encoding_is_damage(text: str) -> None:
    broken = as_read_wrongly(text)
    assert find_first(DAMAGE, broken), broken
    assert re.search(DAMAGE, text) is None


def test_the_suite_sees_damage_as_the_patterns_do(tmp_path: Path) -> None:
    """Great Expectations runs the patterns in another engine than `re`."""
    rows = make_rows([(text, "card") for text in [*HONEST, *map(as_read_wrongly, BROKEN)]])
    verdicts = check(tmp_path, [*GOOD, *rows])
    assert verdicts.accepted["text"].to_pylist()[20:] == HONEST
    assert {row["text"] for row in verdicts.refused.to_pylist()} == set(map(as_read_wrongly, BROKEN))
