"""Images without labels, for the methods that use none."""

from __future__ import annotations

import shutil

import pytest

from slmlp import api, config, data
from slmlp.runtime.errors import SlmlpError

TRAINING = config.Training(
    encoder="resnet10", image_size=16, batch_size=8, epochs=1, augment="weak", threads=1, precision="float32"
)
UNLABELLED = config.DataOptions(unlabelled=True)


@pytest.fixture
def heap(shapes, tmp_path):
    """Twenty images in one flat folder, one more in a folder below."""
    folder = tmp_path / "heap"
    (folder / "below").mkdir(parents=True)
    images = sorted((shapes / "train").rglob("*.png"))[::7]
    for i, path in enumerate(images):
        shutil.copy(path, folder / ("below" if i == 0 else ".") / f"{i}.png")
    return folder, len(images)


def test_every_image_is_taken_wherever_it_lies_and_methods_without_labels_train(heap, tmp_path):
    folder, n = heap
    with pytest.raises(SlmlpError, match="--unlabelled"):
        data.load(str(folder))
    images = data.load(str(folder), UNLABELLED)
    assert (len(images), images.classes) == (n, ("unlabelled",))
    run = api.pretrain(
        str(folder), tmp_path / "run", method="simclr", training=TRAINING, options=UNLABELLED, progress=False
    )
    assert run.finished
    assert run.config["resolved"]["training_images"] == n


def test_a_manifest_may_leave_labels_out_only_then(heap, tmp_path):
    folder, n = heap
    manifest = folder / "list.csv"
    manifest.write_text("path\n" + "".join(f"{p.relative_to(folder)}\n" for p in sorted(folder.rglob("*.png"))))
    with pytest.raises(SlmlpError, match="column 'label' is missing"):
        data.load(str(manifest))
    assert len(data.load(str(manifest), UNLABELLED)) == n


def test_a_supervised_method_says_that_labels_are_missing(heap, tmp_path):
    with pytest.raises(SlmlpError, match=r"supcon needs labels.*simclr"):
        api.pretrain(
            str(heap[0]), tmp_path / "run", method="supcon", training=TRAINING, options=UNLABELLED, progress=False
        )
    assert not (tmp_path / "run" / "config.json").exists()
