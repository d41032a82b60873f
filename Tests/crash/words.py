"""An independent word count, and the corpora it runs on. Shares no code and no rule table with the program."""

import unicodedata
from collections import Counter
from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=None)
def _belongs(character):
    category = unicodedata.category(character)
    return category[0] == "L" or category == "Nd"


def words(text):
    """The maximal runs of letters and decimal digits, each code point lower-cased by itself."""
    run = []
    for character in text:
        if _belongs(character):
            run.append(character.lower())
        elif run:
            yield "".join(run)
            run = []
    if run:
        yield "".join(run)


def count(contents):
    """The count of every word in some byte strings; what is not UTF-8 is replaced."""
    counts = Counter()
    for data in contents:
        counts.update(words(data.decode("utf-8", errors="replace")))
    return counts


AWKWARD = [
    b"",
    b"\n\n\n",
    b"no newline at the end",
    b"carriage\r\nreturns\r\nhere\r\n",
    "Straße STRASSE ΣΊΣΥΦΟΣ İstanbul naïve nai\u0308ve ǅ".encode() + b"\n",
    "日本語 テスト Ⅻ ²³ ½ ٣٤٥ १२३ 𝔘𝔫𝔦 a_b a-b a.b 3.14".encode() + b"\n",
    b"broken \xff bytes\xc3 in\xe2\x82 the mid\xf0\x9f\x98dle \xed\xa0\x80end\n",
    b"\x00nul\x00bytes\x00\n",
    b"one " * 5000 + b"\n",
    b"x" * 20000 + b"\n",
]


def write_awkward(directory):
    """Files that a careless reader would miscount; returns their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, data in enumerate(AWKWARD):
        paths.append(directory / f"awkward-{number}.txt")
        paths[-1].write_bytes(data)
    return paths


def corpus(most_bytes):
    """Real text of this system, at most `most_bytes` of it: licences first, then documents; sorted, so always the same."""
    found, total = [], 0
    candidates = sorted(Path("/usr/share/common-licenses").glob("*"))
    candidates += sorted(p for p in Path("/usr/share/doc").rglob("*") if p.suffix != ".gz")
    for path in candidates:
        if not path.is_file() or path.is_symlink():
            continue
        size = path.stat().st_size
        if total + size > most_bytes:
            continue
        found.append(path)
        total += size
    return found
