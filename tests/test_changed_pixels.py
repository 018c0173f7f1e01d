"""Images that were changed under their names and sizes: what was made of the old ones does not go on with the new."""

from __future__ import annotations

import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

from slmlp import api, cli, config
from slmlp.results import records
from slmlp.runtime import files
from slmlp.runtime.errors import SlmlpError

SMALL = config.Training(
    encoder="resnet10", image_size=16, batch_size=8, epochs=1, base_lr=0.2, augment="weak", threads=1
)
NET, COUNT = "timm:test_resnet@random", 6


def pixels(changed: bool) -> dict[str, np.ndarray]:
    """Return 48 images of 4 classes; ``changed``: those of one class are others."""
    rng = np.random.default_rng(0)
    drawn = {
        f"{part}/{name}/{i}.bmp": rng.integers(0, 255, (20, 20, 3), dtype=np.uint8)
        for part in ("train", "test") for name in "abcd" for i in range(COUNT)
    }  # fmt: skip
    return {name: 255 - image if changed and "/a/" in name else image for name, image in drawn.items()}


def write(kind: str, place, changed: bool = False) -> str:
    """Write the images as a folder, a tar or an array; the sizes of all files stay the same."""
    shutil.rmtree(place / "images", ignore_errors=True)
    if kind == "npz":
        drawn = pixels(changed)
        names = [name.split("/") for name in drawn]
        parts, labels = ([name[at] for name in names] for at in (0, 1))
        place.mkdir(exist_ok=True)
        np.savez(place / "x.npz", x=np.stack(list(drawn.values())), y=np.array(labels), part=np.array(parts))
        return str(place / "x.npz")
    for name, image in pixels(changed).items():
        file = place / "images" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    if kind == "folder":
        return str(place / "images")
    with tarfile.open(place / "images.tar", "w") as tar:
        tar.add(place / "images", "images")
    return str(place / "images.tar")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "tar", "npz"])
def test_a_run_goes_on_with_copies_and_not_with_other_pixels(tmp_path, kind):
    data, out = write(kind, tmp_path / "here"), tmp_path / "run"
    weights = (api.pretrain(data, out, training=SMALL, progress=False).path / "encoder.safetensors").read_bytes()
    write(kind, tmp_path / "here")  # the same images, written again
    (out / "encoder.safetensors").unlink()  # as if it had been killed before its end
    api.pretrain(data, out, training=SMALL, progress=False)
    assert (out / "encoder.safetensors").read_bytes() == weights
    write(kind, tmp_path / "here", changed=True)
    with pytest.raises(SlmlpError, match=r"trained on other images .*same names and sizes, other pixels"):
        api.pretrain(data, out, training=SMALL, progress=False)  # finished
    (out / "encoder.safetensors").unlink()
    assert cli.main(["pretrain", "--resume", str(out)]) == 2
    assert not (out / "encoder.safetensors").exists()
    api.pretrain(data, out, training=SMALL, progress=False, overwrite=True)
    assert (out / "encoder.safetensors").read_bytes() != weights


@pytest.mark.parametrize("kind", ["folder", "tar", "npz"])
def test_numbers_of_other_pixels_are_computed_again(tmp_path, kind):
    data, out = write(kind, tmp_path / "here"), tmp_path / "out"
    first = api.evaluate(NET, data, task="centroid", out=out)
    lines = (out / "results.jsonl").read_bytes()
    write(kind, tmp_path / "here")
    assert api.evaluate(NET, data, task="centroid", out=out) == first
    assert (out / "results.jsonl").read_bytes() == lines  # nothing was added
    write(kind, tmp_path / "here", changed=True)
    again = api.evaluate(NET, data, task="centroid", out=out)
    assert [row.hashes["data"] for row in again] == [row.hashes["data"] for row in first]
    assert again[0].hashes["pixels"] != first[0].hashes["pixels"]
    assert again == api.evaluate(NET, data, task="centroid", out=tmp_path / "fresh")
    assert records.read(out / "results.jsonl") == again


def test_lines_of_before_there_were_marks_stand(tmp_path):
    data, out = write("folder", tmp_path / "here"), tmp_path / "out"
    first = api.evaluate(NET, data, task="centroid", out=out)
    (out / "results.jsonl").unlink()
    old = [{**vars(row), "hashes": {k: v for k, v in row.hashes.items() if k != "pixels"}} for row in first]
    records.append(out / "results.jsonl", *(records.Result(**row) for row in old))
    size = (out / "results.jsonl").stat().st_size
    assert [row.value for row in api.evaluate(NET, data, task="centroid", out=out)] == [row.value for row in first]
    assert (out / "results.jsonl").stat().st_size == size


@pytest.mark.slow
def test_a_study_of_other_pixels_is_refused(tmp_path, capsys):
    data, out = write("folder", tmp_path / "here"), tmp_path / "study"
    words = f"study {data} --methods sl --seeds 1 --rates 0.2 --encoder resnet10 --threads 1 --image-size 16"
    words += f" --batch-size 4 --epochs 1 --split.by random --split.unseen-fraction 0.5 --augment weak --out {out}"
    assert cli.main([*words.split(), "--parallel", "1"]) == 0
    results = (out / "results.jsonl").read_bytes()
    write("folder", tmp_path / "here")
    assert cli.main([*words.split(), "--parallel", "1"]) == 0
    write("folder", tmp_path / "here", changed=True)
    assert cli.main([*words.split(), "--parallel", "1"]) == 2
    assert "holds a study of other images" in capsys.readouterr().err.splitlines()[-1]
    assert (out / "results.jsonl").read_bytes() == results


def test_marks_contradict_where_the_same_was_decoded():
    assert files.contradicts("a:1", "a:2")
    for one, other in (("a:1", "a:1"), ("a:1", "b:2"), ("", "a:1"), ("a:1", None), (None, None), ("a:", "a:1")):
        assert not files.contradicts(one, other)
