"""Each situation of tests/situations.py is told, with the right exit code and no traceback."""

from __future__ import annotations

import pytest

import situations


@pytest.mark.slow
def test_every_situation_is_told():
    for situation, code, told in situations.rows():
        assert situation.tells in told, f"{situation.name}: {told[-600:]}"
        assert code == situation.code, f"{situation.name}: {told[-600:]}"
        assert "Traceback" not in told
