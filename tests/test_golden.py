"""The golden numbers: what the package computed before its modules moved is what it computes now.

On the machine that golden.json was written on, every number is the same to 1e-9; elsewhere float64 parts are, and
float32 parts are within the tolerance that ``golden.PARTS`` states. ``python tests/golden.py`` prints what deviates.
"""

from __future__ import annotations

import pytest

import golden


@pytest.mark.parametrize("part", golden.PARTS)
def test_numbers_are_those_of_before(part, tmp_path):
    held = golden.load()
    found = golden.compute(part, tmp_path)
    assert found
    wrong = golden.beyond(part, found, held["parts"][part], held["machine"])
    assert not wrong, f"{len(wrong)} numbers moved, the most: " + "; ".join(wrong[:5])


def test_a_number_that_moves_or_goes_is_told():
    held = {"a": [1.0, None], "b": [2.0]}
    for other, count in (({"a": [1.0, None], "b": [2.0]}, 0), ({"a": [1.0 + 1e-8, None], "b": [2.0]}, 1),
                         ({"a": [1.0, 0.0], "b": [2.0]}, 1), ({"a": [1.0], "c": [2.0]}, 3)):  # fmt: skip
        assert len(golden.beyond("methods", other, held, golden.machine())) == count
        assert len(golden.beyond("methods", other, held, "another")) == count
