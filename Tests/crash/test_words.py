"""The independent count itself."""

from words import AWKWARD, corpus, count, words


def test_a_word_is_a_maximal_run_of_letters_and_decimal_digits():
    assert list(words("Hello, World-2 a_b x²")) == ["hello", "world", "2", "a", "b", "x"]


def test_lower_case_goes_code_point_by_code_point():
    # A whole-string lower() would give the final sigma; this rule does not.
    assert list(words("ΣΑΣ")) == ["σασ"]


def test_broken_bytes_separate_words():
    assert count([b"mid\xf0\x9f\x98dle"]) == {"mid": 1, "dle": 1}


def test_a_combining_mark_separates():
    assert list(words("nai\u0308ve")) == ["nai", "ve"]


def test_the_corpora_hold_words():
    assert sum(count(AWKWARD).values()) > 5000
    files = corpus(300_000)
    assert files and sum(path.stat().st_size for path in files) <= 300_000
