"""Every entry's layout in miniature: a few tiny images, tables and lists as the published archive has them."""

from __future__ import annotations

import dataclasses
import io
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from data_images import encoded, jpeg, photo, write
from slmlp.data import ImageSet
from slmlp.data.published import ENTRIES, Entry, get, registry

Files = dict[str, bytes]
# name -> (classes, images, train, test) of its miniature
COUNTS = {
    "ChestX": (3, 16, 9, 7), "CropDisease": (2, 8, 6, 2), "DeepWeeds": (3, 12, 7, 5), "DTD": (2, 6, 4, 2),
    "EuroSAT": (3, 30, 21, 9), "Flowers102": (2, 6, 4, 2), "ISIC": (3, 12, 7, 5), "Kaokore": (3, 7, 4, 3),
    "Omniglot": (3, 60, 42, 18), "Resisc45": (2, 20, 14, 6), "Sketch": (2, 20, 14, 6), "SVHN": (2, 4, 2, 2),
    "Aircraft": (2, 3, 2, 1), "Caltech101": (2, 70, 60, 10), "Cars": (2, 4, 2, 2), "CIFAR10": (2, 12, 10, 2),
    "CIFAR100": (2, 4, 2, 2), "FashionMNIST": (3, 8, 6, 2), "Food101": (2, 4, 2, 2), "Pets": (2, 4, 2, 2),
    "SUN397": (2, 6, 3, 3),
}  # fmt: skip


def entry(name: str, **changes: object) -> Entry:
    """Return an entry with the counts of its miniature."""
    classes, images, train, test = COUNTS[name]
    made = {
        "classes": classes, "images": images, "train": train, "test": test, "per_class": None, "each": None,
    }  # fmt: skip
    return dataclasses.replace(get(name), **{**made, **changes})


def without_checksums(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torchvision read files without its checksums, which miniatures cannot have."""
    for module in ("cifar", "svhn", "flowers102"):
        monkeypatch.setattr(f"torchvision.datasets.{module}.check_integrity", lambda *_: True)
    monkeypatch.setattr("torchvision.datasets.svhn.SVHN._check_integrity", lambda _: True)


def small_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the entries the counts of their miniatures."""
    without_checksums(monkeypatch)
    made = {name: entry(name) for name in ENTRIES}
    monkeypatch.setattr(registry, "_SPELLINGS", {key: made[e.name] for key, e in registry._SPELLINGS.items()})


def pairs(images: ImageSet) -> dict[str, tuple[str, str]]:
    """Return the class and the part of each image."""
    return {i: (images.classes[y], str(p)) for i, y, p in zip(images.ids, images.labels, images.parts, strict=True)}


def make(name: str, root: Path) -> Path:
    """Write the miniature of an entry below ``root`` and return it."""
    return write(root, FILES[name]())


def png(seed: int) -> bytes:
    return encoded(photo(seed), "PNG")


def folders(prefix: str, classes: tuple[str, ...], names: str, each: int, form=jpeg) -> Files:
    files = [f"{prefix}{c}/{names.format(c=c, i=i)}" for c in classes for i in range(1, each + 1)]
    return {name: form(i) for i, name in enumerate(files)}


def chestx() -> Files:
    labels = ["Mass"] * 7 + ["Nodule"] * 5 + ["Effusion"] * 4 + ["No Finding", "Mass|Nodule", "Pneumonia", "Hernia"]
    head = (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],\n"
    )
    names = [f"{i // 3:08d}_{i % 3:03d}.png" for i in range(len(labels))]
    lines = [
        f"{n},{y},0,{i // 3},58,M,PA,2682,2749,0.143,0.143,\n"
        for i, (n, y) in enumerate(zip(names, labels, strict=True))
    ]
    images = {f"images_{1 + i % 2:03d}/images/{n}": png(i) for i, n in enumerate(names)}
    return {"Data_Entry_2017.csv": (head + "".join(lines)).encode(), "README_CHESTXRAY.pdf": b"%PDF", **images}


def cropdisease() -> Files:
    classes = ("Peach___healthy", "Corn_(maize)___Common_rust_")
    train = folders("CropDiseases/train/", classes, "{i} HL.JPG", 3)
    test = {f"CropDiseases/test/{c}/9 HL.JPG": jpeg(50 + i) for i, c in enumerate(classes)}
    return {**train, **test, "__MACOSX/CropDiseases/train/._x.JPG": b"\0"}


def deepweeds() -> Files:
    rows = [("Lantana", 1)] * 5 + [("Negative", 8)] * 4 + [("Chinee apple", 0)] * 3
    names = [f"20170126-0951{i:02d}-0.jpg" for i in range(len(rows))]
    lines = [f"{n},{number},{species}\n" for n, (species, number) in zip(names, rows, strict=True)]
    table = ("Filename,Label,Species\n" + "".join(lines)).encode()
    images = {f"images/{n}": jpeg(i) for i, n in enumerate(names)}
    return {"labels/labels.csv": table, "labels/train_subset0.csv": table, **images}


def dtd() -> Files:
    splits = {"train1": "a/1.jpg\nb/1.jpg\n", "val1": "a/2.jpg\nb/2.jpg\n", "test1": "a/3.jpg\nb/3.jpg\n"}
    images = {f"dtd/images/{c}/{i}.jpg": jpeg(10 * k + i) for k, c in enumerate("ab") for i in (1, 2, 3)}
    return {**{f"dtd/labels/{name}.txt": text.encode() for name, text in splits.items()}, **images}


def flowers() -> Files:
    ids = {"trnid": [[1, 2]], "valid": [[3, 4]], "tstid": [[5, 6]]}
    images = {f"jpg/image_{i:05d}.jpg": jpeg(i) for i in range(1, 7)}
    return {"setid.mat": mat(ids), "imagelabels.mat": mat({"labels": [[1, 2, 1, 2, 1, 2]]}), **images}


def isic() -> Files:
    of = ["NV"] * 6 + ["MEL"] * 4 + ["DF"] * 2
    head = "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC"
    lines = [
        ",".join([f"ISIC_{i:07d}", *("1.0" if c == y else "0.0" for c in head.split(",")[1:])])
        for i, y in enumerate(of)
    ]
    table = "\n".join([head, *lines, ""])
    images = {f"ISIC2018_Task3_Training_Input/ISIC_{i:07d}.jpg": jpeg(i) for i in range(len(of))}
    folder = "ISIC2018_Task3_Training_GroundTruth"
    return {f"{folder}/{folder}.csv": table.encode(), "ISIC2018_Task3_Training_Input/LICENSE.txt": b"CC", **images}


def kaokore() -> Files:
    rows = ["0,0,train", "0,1,train", "1,0,train", "0,0,train", "0,2,dev", "0,0,test", "0,1,test", "1,0,test"]
    table = "image,gender,status,set\n" + "".join(f"{i:08d}.jpg,{row}\n" for i, row in enumerate(rows))
    return {"labels.csv": table.encode(), **{f"images_256/{i:08d}.jpg": jpeg(i) for i in range(len(rows))}}


def omniglot() -> Files:
    files = {}
    for k, c in enumerate(("Angelic/character01", "Angelic/character02", "Tibetan/character01")):
        files |= {f"images_evaluation/{c}/{900 + k}_{i:02d}.png": png(20 * k + i) for i in range(1, 21)}
    return {**files, "images_background/Greek/character01/0001_01.png": png(99), "images_evaluation.zip": b"PK"}


def resisc() -> Files:
    return folders("NWPU-RESISC45/", ("airplane", "sea_ice"), "{c}_{i:03d}.jpg", 10)


def sketch() -> Files:
    return folders("sketch/", ("n01440764", "n02107683"), "sketch_{i}.JPEG", 10)


def svhn() -> Files:
    x = np.stack([photo(i, 32, 32) for i in range(4)])
    files = {"train": (x[:2], [[10], [3]]), "test": (x[2:], [[3], [10]])}
    return {
        f"{part}_32x32.mat": mat({"X": pixels.transpose(1, 2, 3, 0), "y": np.array(y)})
        for part, (pixels, y) in files.items()
    }


def aircraft() -> Files:
    lists = {
        "images_variant_trainval": "1 707\n2 A 300\n",
        "images_variant_test": "3 A 300\n",
        "variants": "707\nA 300\n",
    }
    images = {f"fgvc-aircraft-2013b/data/images/{i}.jpg": jpeg(i) for i in (1, 2, 3)}
    return {**{f"fgvc-aircraft-2013b/data/{n}.txt": text.encode() for n, text in lists.items()}, **images}


def caltech() -> Files:
    classes = ("ant", "Faces", "BACKGROUND_Google")
    return folders("caltech-101/101_ObjectCategories/", classes, "image_{i:04d}.jpg", 35)


def cars() -> Files:
    def annotations(*rows: tuple[str, int]) -> bytes:
        return mat({"annotations": np.array(list(rows), dtype=[("fname", object), ("class", object)])})

    return {
        "devkit/cars_meta.mat": mat({"class_names": np.array(["Audi TT", "Fiat 500"], dtype=object)}),
        "devkit/cars_train_annos.mat": annotations(("00001.jpg", 1), ("00002.jpg", 2)),
        "cars_test_annos_withlabels.mat": annotations(("00001.jpg", 2), ("00002.jpg", 1)),
        **{f"cars_{part}/0000{i}.jpg": jpeg(10 * k + i) for k, part in enumerate(("train", "test")) for i in (1, 2)},
    }


def cifar10() -> Files:
    flat = np.stack([photo(i, 32, 32) for i in range(12)]).transpose(0, 3, 1, 2).reshape(12, -1)
    batches = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    made = {n: {"data": flat[2 * i : 2 * i + 2], "labels": [0, 1]} for i, n in enumerate(batches)}
    made["batches.meta"] = {"label_names": ["airplane", "frog"]}
    return {f"cifar-10-batches-py/{name}": pickle.dumps(content) for name, content in made.items()}


def cifar100() -> Files:
    flat = np.stack([photo(i, 32, 32) for i in range(4)]).transpose(0, 3, 1, 2).reshape(4, -1)
    made = {"train": {"data": flat[:2], "fine_labels": [1, 0]}, "test": {"data": flat[2:], "fine_labels": [0, 1]}}
    made["meta"] = {"fine_label_names": ["apple", "bear"]}
    return {f"cifar-100-python/{name}": pickle.dumps(content) for name, content in made.items()}


def fashion() -> Files:
    def idx(array: np.ndarray) -> bytes:
        sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
        return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()

    x, y = np.stack([photo(i, 28, 28)[..., 0] for i in range(8)]), np.array([9, 0, 9, 1, 0, 1, 9, 0])
    return {
        "train-images-idx3-ubyte": idx(x[:6]), "train-labels-idx1-ubyte": idx(y[:6]),
        "t10k-images-idx3-ubyte": idx(x[6:]), "t10k-labels-idx1-ubyte": idx(y[6:]),
    }  # fmt: skip


def food() -> Files:
    parts = {"train": {"pie": ["pie/1"], "taco": ["taco/1"]}, "test": {"pie": ["pie/2"], "taco": ["taco/2"]}}
    lists = {f"food-101/meta/{part}.json": json.dumps(of).encode() for part, of in parts.items()}
    return {
        **lists,
        **{f"food-101/images/{c}/{i}.jpg": jpeg(10 * k + i) for k, c in enumerate(("pie", "taco")) for i in (1, 2)},
    }


def pets() -> Files:
    lists = {"trainval": "Abyssinian_1 1 1 1\nbeagle_1 2 2 1\n", "test": "Abyssinian_2 1 1 1\nbeagle_2 2 2 1\n"}
    images = {
        f"images/{name}_{i}.jpg": jpeg(10 * k + i) for k, name in enumerate(("Abyssinian", "beagle")) for i in (1, 2)
    }
    return {**{f"annotations/{n}.txt": text.encode() for n, text in lists.items()}, **images}


def sun() -> Files:
    names = ["a/abbey/sun_1.jpg", "a/abbey/sun_2.jpg", "a/abbey/sun_3.jpg"]
    names += [f"a/apartment_building/outdoor/sun_{i}.jpg" for i in (1, 2, 3)]
    train, test = [names[0], names[3], names[4]], [names[1], names[2], names[5]]
    lists = {"Training_01.txt": train, "Testing_01.txt": test}
    files = {f"Partitions/{n}": "".join(f"/{line}\n" for line in lines).encode() for n, lines in lists.items()}
    images = {f"SUN397/{name}": jpeg(i) for i, name in enumerate([*names, "a/abbey/sun_unused.jpg"])}
    return {**files, **images, "SUN397/ClassName.txt": b"/a/abbey\n/a/apartment_building/outdoor\n"}


def mat(content: dict[str, object]) -> bytes:
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, content)
    return buffer.getvalue()


FILES = {
    "ChestX": chestx, "CropDisease": cropdisease, "DeepWeeds": deepweeds, "DTD": dtd, "EuroSAT": lambda: folders(
        "2750/", ("Forest", "River", "SeaLake"), "{c}_{i}.jpg", 10
    ), "Flowers102": flowers, "ISIC": isic, "Kaokore": kaokore, "Omniglot": omniglot, "Resisc45": resisc,
    "Sketch": sketch, "SVHN": svhn, "Aircraft": aircraft, "Caltech101": caltech, "Cars": cars, "CIFAR10": cifar10,
    "CIFAR100": cifar100, "FashionMNIST": fashion, "Food101": food, "Pets": pets, "SUN397": sun,
}  # fmt: skip
