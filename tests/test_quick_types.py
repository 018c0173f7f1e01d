"""The stand-in for typeguard says what typeguard says and is not in the way of it."""

from __future__ import annotations

import dataclasses
import operator
import sys
import typing
from typing import Annotated, Any, Literal, Union

import pytest
import typeguard

from slmlp import config
from slmlp.cli import quick_types
from slmlp.cli.quick_types import fits

KINDS = (
    bool, int, float, str, bytes, list, None, Any, str | None, int | str, Literal["a", 1], tuple[int, ...],
    tuple[float, ...], tuple[float, float, float] | None, tuple[str, int], tuple[str, ...], tuple[tuple[int, str], ...],
    Annotated[int | None, "mark"], int | Literal["encoder", "none"] | None, tuple[()],
    operator.getitem(Union, (float, None)), operator.getitem(Union, (int, str)),  # another class than what | makes
)  # fmt: skip
VALUES = (
    None, True, False, 0, 1, -3, 0.5, 1.0, "", "a", "1", "encoder", b"a", [], [1], {}, (), (1,), (1, 2),
    (0.5, 1.0, 2.0), (1, 2, 3), ("a", 1), ("a", "b"), ("a", None), (1, 2, "3"), ((1, "a"),), ((1, 2),),
)  # fmt: skip


def told_by_typeguard(value: object, kind: object) -> bool:
    try:
        typeguard.check_type(value, kind, collection_check_strategy=typeguard.CollectionCheckStrategy.ALL_ITEMS)
    except typeguard.TypeCheckError:
        return False
    return True


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_it_says_what_typeguard_says(kind):
    for value in VALUES:
        assert fits(value, kind) is told_by_typeguard(value, kind), (value, kind)


def test_every_setting_is_of_a_type_that_is_known():
    configs = [*{kind for kind in vars(config).values() if isinstance(kind, type) and dataclasses.is_dataclass(kind)}]
    assert len(configs) > 15
    asked = 0
    for kind in configs:
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            plain = field.default is not dataclasses.MISSING and not dataclasses.is_dataclass(field.default)
            if plain and not isinstance(field.default, dict):
                asked += 1
                assert fits(field.default, hints[field.name]) is True, field.name
    assert asked > 100


def test_what_it_does_not_know_is_asked_of_typeguard(monkeypatch):
    assert fits([1], list[int]) is None
    assert fits((1, [2]), tuple[int, list[int]]) is None
    monkeypatch.delitem(sys.modules, "typeguard")
    with quick_types.quick():
        import typeguard as stand_in

        assert isinstance(stand_in, quick_types.StandIn)
        assert stand_in.check_type((1,), tuple[int, ...]) == (1,)
        assert stand_in.real is None
        assert stand_in.check_type([1], list[int]) == [1]
        with pytest.raises(stand_in.TypeCheckError):
            stand_in.check_type(["a"], list[int])
        with pytest.raises(stand_in.TypeCheckError):
            stand_in.check_type(("a",), tuple[int, ...])
        assert stand_in.CollectionCheckStrategy.ALL_ITEMS.name == "ALL_ITEMS"
    assert sys.modules["typeguard"] is stand_in.real
    with quick_types.quick():
        assert sys.modules["typeguard"] is stand_in.real  # it is there already: nothing to save
