"""How nearly a title stands in a text, from 0 to 1; pure.

Two measures, since a PDF's text errs in two ways. By letters: spaces, hyphens and single signs are wrong, and
the title is there all the same (Myers' bit-parallel approximate search, J. ACM 46:3, 1999). By words in
order: whole pieces stand between its lines or are missing (local alignment after Smith and Waterman).

Rejected: ``difflib`` (a hundred times slower, and no search), and ``rapidfuzz`` as one more dependency: it is
faster, but a title that stands there to the letter is found without it, and the others cost some 8 ms.
"""

from __future__ import annotations

from collections.abc import Sequence

LETTERS_MAX = 15_000
"""Letters of a text that are searched: more than two pages of a journal."""
WORDS_MAX = 3_000
"""Words of a text that are aligned."""
PASSED_OVER = 0.2
"""What a word that stands in between costs, in letters."""


def likeness(title: Sequence[str], text: Sequence[str]) -> float:
    """How nearly a title stands in a text, both as words: 1 where it stands there to the letter."""
    wanted, letters = "".join(title), "".join(text)
    if not wanted:
        return 0.0
    if wanted in letters:
        return 1.0
    return max(by_letters(wanted, letters[:LETTERS_MAX]), by_words(title, text[:WORDS_MAX]))


def by_letters(wanted: str, letters: str) -> float:
    """1 less the share of edits that turn ``wanted`` into the nearest piece of ``letters``."""
    length = len(wanted)
    mask, last = (1 << length) - 1, 1 << (length - 1)
    places: dict[str, int] = {}
    for at, letter in enumerate(wanted):
        places[letter] = places.get(letter, 0) | 1 << at
    rises, falls = mask, 0
    edits = fewest = length
    for letter in letters:
        same = places.get(letter, 0)
        across = (((same & rises) + rises) ^ rises) | same
        up, down = falls | (~(across | rises) & mask), rises & across
        edits += bool(up & last) - bool(down & last)
        fewest = min(fewest, edits)
        up, down, level = up << 1, down << 1, same | falls
        rises, falls = (down | ~(level | up)) & mask, up & level & mask
    return 1 - fewest / length


def by_words(title: Sequence[str], text: Sequence[str]) -> float:
    """The share of the title's letters whose words stand in order and close together in the text.

    Words of the text in between cost ``PASSED_OVER`` each; what is missing from the text counts against it.
    """
    weights = [len(word) for word in title]
    known = set(title)
    best = 0.0
    row = [0.0] * (len(title) + 1)
    for word in text:
        if word in known:
            row = _aligned(row, word, title, weights)
            best = max(best, *row)
        else:
            row = [max(0.0, score - PASSED_OVER) for score in row]
    return best / sum(weights) if title else 0.0


def _aligned(before: Sequence[float], word: str, title: Sequence[str], weights: Sequence[int]) -> list[float]:
    """The best scores of what ends at each word of the title, after one more word of the text."""
    row = [0.0]
    for at, wanted in enumerate(title):
        passed, left_out = before[at + 1] - PASSED_OVER, row[at] - PASSED_OVER
        met = before[at] + weights[at] if wanted == word else 0.0
        row.append(max(0.0, passed, left_out, met))
    return row
