"""Files that appear together: what is left when the hidden folder, or what was placed, is removed meanwhile."""

from __future__ import annotations

import os

import pytest

from slmlp import api
from slmlp.experiments import features
from slmlp.runtime import staging
from slmlp.runtime.errors import SlmlpError


def test_placed_files_that_are_removed_meanwhile_are_an_error(tmp_path, monkeypatch):
    out, real = tmp_path / "main.npz", os.link

    def link(path, target):
        real(path, target)
        (tmp_path / "beside.json").unlink(missing_ok=True)

    monkeypatch.setattr(os, "link", link)

    def write():
        with staging.staged(out) as stage:
            for name in ("beside.json", out.name):
                (stage / name).write_text(name)
            staging.place([stage / "beside.json", stage / out.name], tmp_path)

    with pytest.raises(SlmlpError, match=f"cannot write {out}"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_features_without_the_summary_of_their_data_are_not_placed(tmp_path, monkeypatch):
    """Who removes the hidden folder's files before the features are saved into it takes the summary with them."""
    out, real = tmp_path / "f.npz", features.data.announce

    def announce(images, folder, prefix=""):
        written = real(images, folder, prefix)
        for file in written:
            file.unlink()
        return written

    monkeypatch.setattr(features.data, "announce", announce)
    with pytest.raises(SlmlpError, match=f"cannot write {out}"):
        api.features("timm:test_resnet@random", "emoji", out=out)
    assert list(tmp_path.iterdir()) == []
