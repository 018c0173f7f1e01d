"""What people really feed it, each as a small input, and what is said: ``python tests/situations.py`` prints a table.

Situations are from public reports of people who do this job. Each is a function that builds its files below a folder
and returns the command; the table has the line that the command ends with, or the line of its output that tells.
``--write`` puts the table into docs/reliability.md.
"""

from __future__ import annotations

import contextlib
import html
import io
import json
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from data_images import jpeg, two_classes, write
from detection_data import QUICK, data_set, part
from situations_more import MORE, Situation

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reliability.md"
NET = "timm:test_resnet@random"
EVALUATE = ["--task", "centroid", "--out", "{}/out"]
DETECT = [word for key, value in QUICK.items() for word in (f"--{key.replace('_', '-')}", str(value))]


def images(files: dict[str, bytes], *words: object) -> Callable[[Path], list[object]]:
    """Return a builder of an evaluation on these files."""
    return lambda at: ["evaluate", NET, write(at / "pets", files), *EVALUATE, *words]


def manifest(text: str, *words: object) -> Callable[[Path], list[object]]:
    """Return a builder of an evaluation on a manifest beside six images, 0.jpg to 5.jpg."""

    def build(at: Path) -> list[object]:
        write(at, {f"{i}.jpg": jpeg(i) for i in range(6)})
        (at / "list.csv").write_text(text)
        return ["evaluate", NET, at / "list.csv", *EVALUATE, *words]

    return build


def coco(change: Callable[[dict], None], which: str = "train") -> Callable[[Path], list[object]]:
    """Return a builder of a detection on a changed annotations file."""

    def build(at: Path) -> list[object]:
        data_set(at / "coco")
        file = at / "coco" / "annotations" / f"instances_{which}.json"
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))
        return ["detect", NET, at / "coco", *DETECT, "--out", at / "out"]

    return build


def first(**values: object) -> Callable[[dict], None]:
    """Return a change of the first annotation."""
    return lambda content: content["annotations"][0].update(values)


def weights(change: Callable[[dict], dict]) -> Callable[[Path], list[object]]:
    """Return a builder of an evaluation of changed weights."""

    def build(at: Path) -> list[object]:
        import timm
        import torch

        torch.save(change(timm.create_model("test_resnet", num_classes=3).state_dict()), at / "w.pt")
        return ["evaluate", f"timm:test_resnet@{at}/w.pt", write(at / "pets", two_classes(each=4)), *EVALUATE]

    return build


def web_page(at: Path) -> list[object]:
    """Give what a browser saves where a download needs a licence."""
    (at / "w.safetensors").write_text("<!DOCTYPE html><html>")
    return ["evaluate", f"timm:test_resnet@{at}/w.safetensors", write(at / "pets", two_classes(each=4)), *EVALUATE]


def split_features(at: Path) -> list[object]:
    """Name the parts of features as scikit-learn's users do."""
    np.savez(at / "f.npz", x=np.eye(8), y=np.arange(8) % 2, split=np.array(["train", "test"])[np.arange(8) // 4])
    return ["evaluate", at / "f.npz", *EVALUATE]


def thumbnails(at: Path) -> list[object]:
    """Put small copies of the images beside them."""
    data_set(at / "coco")
    shutil.copytree(at / "coco" / "images" / "train", at / "coco" / "thumbs")
    (at / "coco" / "images" / "train").rename(at / "coco" / "images" / "full")
    return ["detect", NET, at / "coco", *DETECT, "--out", at / "out"]


def leaked(at: Path) -> list[object]:
    """Give training as validation."""
    part(at, "train", 3, 0)
    file, folder = at / "annotations" / "instances_train.json", at / "images" / "train"
    given = [word for p in ("train", "val") for word in (f"--{p}-json", file, f"--{p}-images", folder)]
    return ["detect", NET, *given, *DETECT, "--controls", "random", "--out", at / "out"]


def projector(at: Path) -> list[object]:
    """Add the projector to a model with heads on features of two widths."""
    (at / "heads.py").write_text(
        "import timm, slmlp\nslmlp.add_projector(timm.create_model('crossvit_9_240', num_classes=7))\n"
    )
    return ["python", at / "heads.py"]


def early(at: Path) -> list[object]:
    """Make the optimizer before the projector is added."""
    (at / "early.py").write_text(
        "import timm, torch, slmlp\nm = timm.create_model('test_resnet', num_classes=5)\n"
        "o = torch.optim.SGD(m.parameters(), 0.1)\nslmlp.add_projector(m)\n"
        "m(torch.randn(4, 3, 32, 32)).sum().backward()\no.step()\n"
    )
    return ["python", at / "early.py"]


def flipped(at: Path) -> list[object]:
    """Flip a bit in a finished encoder."""
    from slmlp.encoders import build

    build("resnet10", 16, "small").save(at / "encoder.safetensors")
    content = bytearray((at / "encoder.safetensors").read_bytes())
    content[-9] ^= 4
    (at / "encoder.safetensors").write_bytes(content)
    return ["evaluate", at / "encoder.safetensors", write(at / "pets", two_classes(each=4)), *EVALUATE]


PARTS = {**two_classes("train/", each=4), **two_classes("test/", each=2, start=50)}
NAN = float("nan")
SITUATIONS = [
    Situation(
        "test images that are copies of training images",
        images({**PARTS, "test/dog/9.jpg": two_classes("train/", each=4)["train/cat/0.jpg"]}),
        "test images that equal a training image byte for byte: 1",
        0,
    ),
    Situation(
        "a damaged file among 200",
        images({**two_classes(each=100), "cat/x.jpg": b"<html>"}),
        "unreadable, left out: 1: cat/x.jpg: no image",
        0,
    ),
    Situation(
        "a class all of whose files have an unknown suffix",
        images({**two_classes(each=4), "yak/1.heic": b"x"}),
        "and class 'yak' has no image",
        0,
    ),
    Situation("no test part", images(two_classes(each=4)), "drawn as test part", 0),
    Situation(
        "a class without test images",
        images({**PARTS, "train/emu/1.jpg": jpeg(70), "train/emu/2.jpg": jpeg(71)}),
        "classes without a test image: 1",
        0,
    ),
    Situation(
        "train/x train/y val/1.png",
        images({**two_classes("train/"), "val/1.jpg": jpeg(60)}),
        "part val has no image in a class folder",
    ),
    Situation(
        "train/ and dev/",
        images({**two_classes("train/"), **two_classes("dev/", start=50)}),
        "taken as parts: dev as test",
        0,
    ),
    Situation(
        "Training Images/ and Testing Images/",
        images({**two_classes("Training Images/"), **two_classes("Testing Images/", start=50)}),
        "taken as parts",
        0,
    ),
    Situation(
        "fold1/ and fold2/ with the same classes",
        images({**two_classes("fold1/"), **two_classes("fold2/", start=50)}),
        "they may be parts or classes",
    ),
    Situation(
        "set1_train/ and set1_test/",
        images({**two_classes("set1_train/"), **two_classes("set1_test/", start=50)}),
        "--parts train=set1_train test=set1_test where they are parts",
    ),
    Situation(
        "Tiny-ImageNet's val/images/",
        images({**two_classes("train/"), "val/images/1.jpg": jpeg(60)}),
        "no class folder of val (images) is one of training",
    ),
    Situation(
        "a manifest with Split and patient_id",
        manifest(
            "Path,Label,Split,patient_id,age\n"
            + "".join(f"{i}.jpg,{'ab'[i % 2]},{'test' if i > 3 else 'train'},p{i},9\n" for i in range(6))
        ),
        "columns taken: Path as path, Label as label, Split as part, patient_id as group",
        0,
    ),
    Situation(
        "a column is_test of 0 and 1",
        manifest("path,label,is_test\n" + "".join(f"{i}.jpg,{'ab'[i % 2]},{int(i > 3)}\n" for i in range(6))),
        "column 'is_test' holds 0 and 1 and is not read as the part",
    ),
    Situation("features with an array split", split_features, "the array 'split' is not read: name it parts"),
    Situation(
        "a comma without quotes", manifest("path,label\n0.jpg,a\n1.jpg,b, large\n"), "3 fields where the header has 2"
    ),
    Situation(
        "a column that nobody knows",
        manifest("path,label,width\n" + "".join(f"{i}.jpg,{'ab'[i % 2]},3\n" for i in range(6))),
        "columns not used: width",
        0,
    ),
    Situation(
        "'Cat' and 'cat '",
        manifest("path,label\n0.jpg,Cat\n1.jpg,cat \n2.jpg,dog\n3.jpg,dog\n4.jpg,Cat\n5.jpg,cat \n"),
        "differ in case, spaces, Unicode form or the form of a number only",
        0,
    ),
    Situation(
        "paths of Windows",
        manifest("path,label\n" + "".join(f".\\{i}.jpg,{'ab'[i % 2]}\n" for i in range(6))),
        "6 images of 2 classes",
        0,
    ),
    Situation(
        "paths on drive C:",
        manifest("path,label\n" + "".join(f"C:\\x\\{i}.jpg,{'ab'[i % 2]}\n" for i in range(6))),
        "a path on drive C: of Windows",
    ),
    Situation(
        "one patient on both sides",
        manifest("path,label,part,group\n0.jpg,a,train,p\n1.jpg,b,train,q\n2.jpg,a,test,p\n3.jpg,b,test,r\n"),
        "group 'p' has images in both the train and the test part",
    ),
    Situation("COCO: thumbnails beside the pictures", thumbnails, "name the folder of the right ones"),
    Situation("COCO: a ring of 7 numbers", coco(first(segmentation=[[1, 2, 3, 4, 5, 6, 7]])), "a ring of 7 numbers"),
    Situation(
        "COCO: NaN in a polygon", coco(first(segmentation=[[1, 2, NAN, 4, 5, 6]])), "a ring with NaN or infinity"
    ),
    Situation("COCO: a flat polygon", coco(first(segmentation=[[1, 1, 2, 2, 3, 3]])), "a ring without area"),
    Situation(
        "COCO: runs of the wrong length",
        coco(first(segmentation={"size": [96, 120], "counts": [5, 5]})),
        "its mask has 10 pixels, its picture 11,520",
    ),
    Situation('COCO: iscrowd "false"', coco(first(iscrowd="false")), "iscrowd is 'false', expected 0 or 1"),
    Situation(
        "COCO: boxes within 0 and 1",
        coco(lambda c: [a.update(bbox=[v / 200 for v in a["bbox"]], segmentation=[]) for a in c["annotations"]]),
        "look like shares of the picture",
    ),
    Situation(
        "COCO: a mask far from its box",
        coco(first(segmentation=[[0.1, 0.1, 0.4, 0.1, 0.4, 0.4]], bbox=[40, 40, 9, 9])),
        "lies beside its box",
    ),
    Situation(
        "COCO: a val part of crowds only",
        coco(lambda c: [a.update(iscrowd=1) for a in c["annotations"]], "val"),
        "no object that is no crowd",
    ),
    Situation("COCO: training given as validation", leaked, "val images equal a training image byte for byte", 0),
    Situation(
        "weights in int8",
        weights(lambda s: {k: (v * 9).char() if k.endswith("conv1.weight") else v for k, v in s.items()}),
        "is int8, so that they are quantised",
    ),
    Situation("a page of the web in place of the weights", web_page, "it is a web page"),
    Situation(
        "an EMA copy beside the weights",
        weights(lambda s: {"state_dict": s, "state_dict_ema": {k: v * 0.9 for k, v in s.items()}}),
        "2 sets of weights in ./w.pt fit, and they differ; name one of them: timm:test_resnet@./w.pt#state_dict, "
        "timm:test_resnet@./w.pt#state_dict_ema",
        2,
    ),
    Situation(
        "num_batches_tracked missing",
        weights(lambda s: {k: v for k, v in s.items() if "num_batches" not in k}),
        "counters of BatchNorm",
        0,
    ),
    Situation(
        "a projector left in the file",
        weights(lambda s: {**s, "projector.0.weight": s["fc.weight"]}),
        "training's own left out (",
        0,
    ),
    Situation("a flipped bit in the weights of a run", flipped, "its sha256 does not agree"),
    Situation(
        "evaluate f.npy",
        lambda at: [np.save(at / "f.npy", np.zeros((4, 2))), "evaluate", at / "f.npy"][1:],
        "holds an array and no encoder",
    ),
    Situation(
        "export of other people's weights",
        lambda at: ["export", NET, "--to", "onnx", "--out", at / "x.onnx"],
        "that slmlp wrote",
    ),
    Situation("add_projector on CrossViT", projector, "heads on features of different widths"),
    Situation("an optimizer made before add_projector", early, "does not hold the projector", 0),
    *MORE,
]


def rows() -> Iterator[tuple[Situation, int, str]]:
    """Yield each situation, the exit code, and all that was said."""
    from slmlp import cli

    for situation in SITUATIONS:
        with tempfile.TemporaryDirectory() as folder:
            at, said = Path(folder), io.StringIO()
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                command = [str(word).replace("{}", folder) for word in situation.build(at)]
            with (
                contextlib.redirect_stdout(said),
                contextlib.redirect_stderr(said),
                warnings.catch_warnings(record=True) as warned,
            ):
                warnings.simplefilter("always")
                code = _python(command[1]) if command[0] == "python" else cli.main(command)
            told = said.getvalue() + "".join(
                f"UserWarning: {one.message}\n" for one in warned if one.category is UserWarning
            )
            yield situation, code, told.replace(folder, ".")


def _python(file: str) -> int:
    """Run a script of a user's; what it raises is printed as Python would, in its last line."""
    try:
        exec(compile(Path(file).read_text(), file, "exec"), {})
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
        return 2
    return 0


def line(told: str, tells: str) -> str:
    """Return the line that tells, at most 400 characters of it."""
    found = next((text.strip() for text in told.splitlines() if tells in text), told.strip().splitlines()[-1])
    return found if len(found) <= 400 else found[:397] + "..."


def main() -> None:
    """Print the table."""
    lines = ["| situation | what is said | exit |", "| --- | --- | --- |"]
    for situation, code, told in rows():
        words = html.escape(line(told, situation.tells), quote=False).replace("|", "\\|").replace("*", "\\*")
        lines.append(f"| {situation.name} | {words} | {code} |")
    print("\n".join(lines))
    if "--write" in sys.argv:
        before, begin, rest = PAGE.read_text().partition("<!-- situations: begin -->\n")
        PAGE.write_text(before + begin + "\n".join(lines) + "\n" + rest[rest.index("<!-- situations: end -->") :])


if __name__ == "__main__":
    main()
