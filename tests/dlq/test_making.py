"""A letter that a failure makes is the one that its class would make."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, field, fields, replace

import pytest

from eventbus_dlq.making import copier, drafting, maker


@dataclass(frozen=True, slots=True)
class Parcel:
    """A record with every sort of field that letters have."""

    id: str
    weight: int = 1
    _opened: object = field(default=None, init=False, repr=False, compare=False)


make = maker(Parcel)


def test_what_is_made_is_an_object_of_the_class() -> None:
    made = make(id="a", weight=2)
    assert type(made) is Parcel
    assert made == Parcel(id="a", weight=2)
    assert hash(made) == hash(Parcel(id="a", weight=2))
    assert repr(made) == repr(Parcel(id="a", weight=2))


def test_defaults_are_the_ones_of_the_class() -> None:
    made = make("a")
    assert [getattr(made, it.name) for it in fields(made)] == ["a", 1, None]


def test_what_is_made_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        make("a").weight = 3  # type: ignore[misc]  # that is the point


def test_what_is_made_can_be_copied_with_changes() -> None:
    assert replace(make("a"), weight=7) == Parcel("a", 7)


def test_a_missing_field_is_refused() -> None:
    with pytest.raises(TypeError, match="id"):
        make()  # type: ignore[call-arg]  # that is the point


def test_what_is_drafted_takes_any_value_until_it_is_finished() -> None:
    begin, finish = drafting(Parcel)
    draft = begin()
    draft.id = "a"
    draft.weight = 2
    finished = finish(draft)
    assert finished == Parcel(id="a", weight=2)
    assert type(finished) is Parcel
    with pytest.raises(FrozenInstanceError):
        finished.weight = 3  # type: ignore[misc]  # that is the point


def test_a_draft_begins_with_the_defaults_of_the_class() -> None:
    begin, finish = drafting(Parcel)
    draft = begin()
    draft.id = "a"
    finished = finish(draft)
    assert [getattr(finished, it.name) for it in fields(finished)] == ["a", 1, None]


def test_a_record_with_a_default_factory_is_refused() -> None:
    """One object per record would have to be made, and nothing here does."""

    @dataclass(frozen=True, slots=True)
    class Basket:
        items: list[str] = field(default_factory=list[str])

    with pytest.raises(TypeError, match=r"Basket\.items has a default_factory"):
        maker(Basket)


def test_a_copy_has_the_changes_and_nothing_else_is_different() -> None:
    copied = copier(Parcel)(make("a", weight=2), weight=7)
    assert type(copied) is Parcel
    assert copied == replace(make("a", weight=2), weight=7)


def test_a_copy_begins_with_the_defaults_of_what_is_not_given_to_the_class() -> None:
    opened = make("a")
    object.__setattr__(opened, "_opened", "yes")
    assert copier(Parcel)(opened)._opened is None


def test_a_change_of_a_field_that_there_is_not_is_refused() -> None:
    with pytest.raises(AttributeError, match="colour"):
        copier(Parcel)(make("a"), colour="red")
