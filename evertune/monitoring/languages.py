"""The languages that texts are written in."""

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def identify_languages(inputs: Iterable[str | Sequence[str]]) -> NDArray[np.str_]:
    """(rows,) the ISO 639 code of each text's, or list of words', language: naive Bayes over byte sequences of 141
    languages (Lui & Baldwin 2012, langid.py).

    Of short texts a few in a hundred get a wrong one, on either side of a comparison alike.
    """
    classify = _load_identifier().classify
    return np.array([classify(text if isinstance(text, str) else " ".join(text))[0] for text in inputs], dtype=np.str_)


@functools.lru_cache(maxsize=1)
def _load_identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE)
