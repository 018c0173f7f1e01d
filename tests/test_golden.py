"""The golden numbers: what the package computed before its modules moved is what it computes now.

On the machine that golden.json was written on every number is the same to 1e-9; elsewhere the float64 parts are, and of
the others what ``golden.beyond`` says. ``python tests/golden.py`` prints what deviates.
"""

from __future__ import annotations

import pytest

import golden

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("part", golden.PARTS)
def test_numbers_are_those_of_before(part, tmp_path):
    held = golden.load()
    found = golden.compute(part, tmp_path)
    assert found
    wrong = golden.beyond(part, found, held["parts"][part], held["machine"])
    assert not wrong, f"{len(wrong)} numbers moved, the most: " + "; ".join(wrong[:5])


def test_a_number_that_moves_or_goes_is_told():
    held = {"line a": [1.0, None], "b loss": [2.0] * 4}
    for changed, moved, elsewhere in (
        ({}, 0, 0),
        ({"line a": [1.0 + 1e-8, None]}, 1, 0),
        ({"line a": [1.0, 0.0]}, 1, 1),
        ({"line a": [1.0]}, 1, 1),
        ({"b loss": [2.0, 2.1, 2.1, 2.1]}, 3, 1),
    ):
        assert len(golden.beyond("suite", held | changed, held, golden.machine())) == moved
        assert len(golden.beyond("suite", held | changed, held, "another")) == elsewhere
    assert len(golden.beyond("methods", held | {"line a": [1.0 + 1e-8, None]}, held, "another")) == 1
    assert len(golden.beyond("methods", {}, held, "another")) == 2
