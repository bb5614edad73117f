"""Hundreds of alternatives are asked as one pattern would be, and only those that may fit are compiled."""

import re
from itertools import product

import pytest

from eventbus.classify.alternatives import Alternatives
from eventbus.classify.concepts import CONCEPTS, NOTHING
from eventbus.classify.names import told_by, words_of


def found(text: str, *patterns: tuple[str, str]) -> list[tuple[str, int]]:
    return list(Alternatives(patterns).found_in(text))


def test_the_first_alternative_that_fits_is_taken() -> None:
    patterns = (("lock", "lock timeout"), ("late", "timeout"), ("held", "lock"))
    assert found("lock timeout", *patterns) == [("lock", 0)]
    assert found("lock held", *patterns) == [("held", 0)]


def test_a_match_goes_on_behind_the_one_before() -> None:
    assert found("read timeout bad read timeout", ("late", "read timeout"), ("odd", "timeout|bad")) == [
        ("late", 0),
        ("odd", 13),
        ("late", 17),
    ]


def test_an_alternative_ends_where_a_word_ends() -> None:
    assert found("deadlocks", ("dead", "dead")) == []
    assert found("deadlocks", ("dead", r"dead\w*")) == [("dead", 0)]


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("errors?", "error"),
        ("(?:max |maximum )?retries", "retries"),
        ("(?:max |maximum )?retries", "maximum retries"),
        (r"(?<!not )exists?", "exists"),
        (r"(?:abc|de(?:f|g(?:hi)?)|xyz) end", "deghi end"),
        (r"un ?processable", "unprocessable"),
    ],
)
def test_every_way_to_open_is_found(pattern: str, text: str) -> None:
    assert re.fullmatch(pattern, text)
    assert found(text, ("it", pattern)) == [("it", 0)]


def test_what_opens_with_any_word_is_refused() -> None:
    with pytest.raises(ValueError, match="must open with a word"):
        Alternatives([("any", r"\w+ failed")])


def test_names_are_read_as_one_pattern_of_all_concepts_would_read_them() -> None:
    kinds = "|".join(f"(?P<{kind.name}>{pattern})" for kind, pattern in CONCEPTS.items())
    whole = re.compile(rf"\b(?:(?P<nothing>{NOTHING})|{kinds})\b")
    words = sorted(set(re.findall(r"[a-z]{2,}", " ".join((NOTHING, *CONCEPTS.values())))))
    for first, second in product(words[::11], words[::7]):
        name = f"{first}_{second}"
        last = [one.lastgroup for one in whole.finditer(words_of(name)) if one.lastgroup != "nothing"][-1:]
        told = told_by.__wrapped__(name)
        if not last:
            assert told is None or told.is_vague
        elif told is not None and told.kind.name != last[0]:
            assert told.kind.name == "VALIDATION", name  # an InvalidTimeout is a value
        else:
            assert told is not None, name
