"""Downloads from a folder that plays the server: whole or not there, never over what is there, never outside."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import json
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest
import torchvision

import dataset_miniatures as miniatures
from data_images import write
from slmlp.cli import main
from slmlp.config import DataOptions
from slmlp.data.published import ENTRIES, fetch, find, get
from slmlp.runtime.errors import SlmlpError


@pytest.fixture
def options(tmp_path):
    return DataOptions(cache_dir=str(tmp_path / "cache"))


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """Put a miniature of Omniglot on a server of this machine, under a checksum that torchvision knows."""
    folder = tmp_path / "server"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    omniglot = torchvision.datasets.Omniglot
    monkeypatch.setattr(omniglot, "download_url_prefix", f"http://127.0.0.1:{server.server_port}")

    def pack(files):
        with zipfile.ZipFile(folder / "images_evaluation.zip", "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        content = (folder / "images_evaluation.zip").read_bytes()
        monkeypatch.setattr(omniglot, "zips_md5", {"images_evaluation": hashlib.md5(content).hexdigest()})
        return folder / "images_evaluation.zip"

    yield pack
    server.shutdown()
    server.server_close()
    thread.join()


FILES = {n: c for n, c in miniatures.FILES["Omniglot"]().items() if n.startswith("images_evaluation/")}


def test_a_download_is_whole_and_comes_once(tmp_path, serve, options):
    archive = serve(FILES)
    entry = miniatures.entry("Omniglot")
    there = fetch.fetch(entry, tmp_path / "datasets", options)
    assert there == tmp_path / "datasets" / "Omniglot"
    assert [p.name for p in (tmp_path / "datasets").iterdir()] == ["Omniglot"]
    (found,) = find(tmp_path / "datasets", options)
    assert found.name == "Omniglot"
    archive.unlink()
    assert fetch.fetch(entry, tmp_path / "datasets", options) == there


def test_a_broken_download_leaves_nothing_that_looks_whole(tmp_path, serve, options):
    archive = serve(FILES)
    good = archive.read_bytes()
    archive.write_bytes(good[:-50])
    entry = miniatures.entry("Omniglot")
    with pytest.raises(SlmlpError, match=r"Omniglot cannot be downloaded .*run the same command again"):
        fetch.fetch(entry, tmp_path / "datasets", options)
    assert not (tmp_path / "datasets" / "Omniglot").exists()
    archive.write_bytes(good)
    assert fetch.fetch(entry, tmp_path / "datasets", options).is_dir()


def test_an_unpacking_that_was_interrupted_is_done_again(tmp_path, serve, options):
    archive = serve(FILES)
    entry, partial = miniatures.entry("Omniglot"), tmp_path / "datasets" / ".Omniglot.partial"
    half = {f"omniglot-py/{n}": c for n, c in list(FILES.items())[:20]}
    write(partial, {**half, "omniglot-py/images_evaluation.zip": archive.read_bytes()})
    torchvision.datasets.Omniglot(partial, background=False, download=True)  # which takes the half for the whole
    assert len(list(partial.rglob("*.png"))) == 20
    assert len(list(fetch.fetch(entry, tmp_path / "datasets", options).rglob("*.png"))) == 60


def test_whole_archives_are_kept_and_what_they_unpacked_to_is_not(tmp_path):
    names = ["dtd/dtd-r1.0.1.tar.gz", "dtd/dtd/images/a/1.jpg", "train_32x32.mat", "x/half.jpg"]
    fetch._clear(write(tmp_path / "x", dict.fromkeys(names, b"x")), fetch._ARCHIVES)
    left = sorted(p.relative_to(tmp_path / "x").as_posix() for p in (tmp_path / "x").rglob("*"))
    assert left == ["dtd", "dtd/dtd-r1.0.1.tar.gz", "train_32x32.mat"]


def test_counts_that_are_not_published_keep_the_name_away(tmp_path, serve, options):
    serve(dict(list(FILES.items())[:40]))
    with pytest.raises(SlmlpError, match="expected 3 classes, found 2"):
        fetch.fetch(miniatures.entry("Omniglot"), tmp_path / "datasets", options)
    assert not (tmp_path / "datasets" / "Omniglot").exists()


def test_what_is_there_is_never_touched(tmp_path, options):
    mine = write(tmp_path / "datasets" / "Omniglot", {"mine.txt": b"x"})
    with pytest.raises(SlmlpError, match="is not laid out as Omniglot"):
        fetch.fetch(miniatures.entry("Omniglot"), tmp_path / "datasets", options)
    assert [p.name for p in mine.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("filters", [True, False], ids=["as this Python has it", "before 3.11.4"])
@pytest.mark.parametrize(
    ("name", "link"), [("../escaped.txt", None), ("/etc/escaped.txt", None), ("in.txt", "../escaped.txt")]
)
def test_members_that_lead_out_of_the_folder_are_refused(tmp_path, monkeypatch, filters, name, link):
    archive, plain = tmp_path / "evil.tar", tmp_path / "plain.tar"
    with tarfile.open(archive, "w") as tar, tarfile.open(plain, "w") as good:
        member = tarfile.TarInfo(name)
        if link:
            member.type, member.linkname = tarfile.SYMTYPE, link
        else:
            member.size = 1
        tar.addfile(member, None if link else io.BytesIO(b"x"))
        whole = tarfile.TarInfo("a/whole.txt")
        whole.size = 1
        good.addfile(whole, io.BytesIO(b"x"))
    (tmp_path / "in").mkdir()
    if not filters:
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    before = dict(vars(tarfile.TarFile))
    with fetch.safe_tar():
        torchvision.datasets.utils.extract_archive(plain, tmp_path / "in")
        if name.startswith("/") and hasattr(tarfile, "data_filter"):  # taken as a path below the folder
            torchvision.datasets.utils.extract_archive(archive, tmp_path / "in")
        else:
            with pytest.raises(tarfile.TarError):
                torchvision.datasets.utils.extract_archive(archive, tmp_path / "in")
    assert (tmp_path / "in" / "a" / "whole.txt").read_bytes() == b"x"
    assert not (tmp_path / "escaped.txt").exists()
    assert not Path("/etc/escaped.txt").exists()
    assert not (tmp_path / "in" / "in.txt").is_symlink()
    assert dict(vars(tarfile.TarFile)) == before


def test_terms_are_agreed_to_first(tmp_path, capsys):
    assert main(["data", "get", "SVHN", "--datasets", str(tmp_path)]) == 2
    shown = capsys.readouterr().err
    assert "the terms of SVHN: non-commercial use only" in shown
    assert "--accept-terms" in shown
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [name for name, entry in ENTRIES.items() if entry.fetch is None])
def test_what_cannot_be_downloaded_is_explained(name, tmp_path, capsys):
    assert main(["data", "get", name, "--datasets", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert get(name).where in shown
    assert str(tmp_path / name) in shown
    assert get(name).on_disk in shown


@pytest.mark.parametrize("name", [name for name, entry in ENTRIES.items() if entry.fetch is not None])
def test_downloads_are_calls_that_torchvision_has_and_checks(name):
    import inspect

    entry = ENTRIES[name]
    constructor = getattr(torchvision.datasets, entry.fetch.name)
    for settings in entry.fetch.calls:
        inspect.signature(constructor).bind("root", **settings, download=True)
    assert "md5" in inspect.getsource(inspect.getmodule(constructor))
    open_licence = entry.licence == "MIT" or entry.licence.startswith("CC BY")
    assert bool(entry.fetch.terms) != open_licence  # whoever has no open licence asks first


def test_the_list(tmp_path, capsys):
    miniatures.make("EuroSAT", tmp_path / "EuroSAT")
    assert main(["data", "list"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ENTRIES)
    assert main(["data", "list", "--datasets", str(tmp_path), "--cache-dir", str(tmp_path / "c")]) == 0
    out, shown = capsys.readouterr()
    assert "is not EuroSAT as published" in out
    assert "missing of Islam et al. 2021: ChestX, CropDisease" in shown
    assert main(["data", "list", "--json", "--datasets", str(tmp_path)]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [d["name"] for d in listed["data_sets"]] == list(ENTRIES)
    assert listed["there"][0]["known"] is True
    assert [d["name"] for d in listed["data_sets"] if d["run_on_archive"] is not None] == ["FashionMNIST"]
