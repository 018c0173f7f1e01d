"""Data sets of Ericsson et al. (CVPR 2021) and t-ReX (ICLR 2023) that Islam et al. do not use, and Fashion-MNIST.

Sources: [tv] torchvision 0.29's class; [ssl] github.com/linusericsson/ssl-transfer (parts, metrics, 11 sets); [trex]
the counts that its paper and data cards give.
"""

from __future__ import annotations

from slmlp.data.published.entry import Draw, Entry, Fetch, Folders, Lists, Torchvision

_NO_LICENCE = "none stated"

AIRCRAFT = Entry(
    name="Aircraft", title="aircraft variants (FGVC-Aircraft 2013b)", suite="ericsson2021-trex", classes=100,
    images=10_000, train=6_667, test=3_333,
    layout=Torchvision(
        "FGVCAircraft", at="fgvc-aircraft-2013b",
        marks=("data/images", "data/variants.txt", "data/images_variant_trainval.txt", "data/images_variant_test.txt"),
    ),
    on_disk="fgvc-aircraft-2013b/data/images/*.jpg; data/variants.txt, images_variant_trainval.txt, ..._test.txt",
    draw=None, protocol="trainval / test lists (t-ReX; Ericsson et al. 2021)",
    where="robots.ox.ac.uk/~vgg/data/fgvc-aircraft (torchvision pins no checksum, so fetch it by hand)",
    licence="non-commercial research only", source="[tv]; [trex]", each=100, metric="mean_class_accuracy",
    aliases=("fgvcaircraft", "fgvcaircraft2013b"), unconfirmed=("the licence",),
)  # fmt: skip

CALTECH101 = Entry(
    name="Caltech101", title="objects (without the background class)", suite="ericsson2021-trex", classes=101,
    images=8_677, train=3_030, test=5_647,
    layout=Folders(inside="101_ObjectCategories", skip=("BACKGROUND_Google",)),
    on_disk="101_ObjectCategories/<class>/image_*.jpg", draw=Draw(number=30),
    protocol="30 of each class / the rest, drawn with RandomState(0)",
    where="data.caltech.edu/records/mzrjq-6wc02: caltech-101.zip", licence="CC BY 4.0", source="[tv]",
    metric="mean_class_accuracy", aliases=("101objectcategories", "caltech-101"),
    fetch=Fetch("Caltech101", folder="caltech101"),
    notes=(
        "Ericsson et al. and Kornblith et al. count the background as a 102nd class and have draws of their own "
        "(3,060 / 6,085): numbers are near theirs, not equal in kind",
    ),
    unconfirmed=("images per class", "the licence"),
)  # fmt: skip

CARS = Entry(
    name="Cars", title="car models (Stanford Cars)", suite="ericsson2021-trex", classes=196, images=16_185, train=8_144,
    test=8_041, layout=Torchvision(
        "StanfordCars", at="stanford_cars",
        marks=(
            "devkit/cars_meta.mat", "devkit/cars_train_annos.mat", "cars_test_annos_withlabels.mat", "cars_train",
            "cars_test",
        ),
    ),
    on_disk="cars_train/*.jpg; cars_test/*.jpg; devkit/*.mat; cars_test_annos_withlabels.mat",
    draw=None, protocol="train / test (t-ReX; Ericsson et al. 2021)",
    where="no longer at its address ai.stanford.edu/~jkrause/cars (pytorch/vision#7545 collects where it can be had)",
    licence="non-commercial research only", source="[tv]; [trex]", aliases=("stanfordcars",),
    unconfirmed=("the licence", "images per class"),
)  # fmt: skip

CIFAR10 = Entry(
    name="CIFAR10", title="small objects", suite="ericsson2021-trex", classes=10, images=60_000, train=50_000,
    test=10_000,
    layout=Torchvision("CIFAR10", at="cifar-10-batches-py", marks=("data_batch_1", "test_batch", "batches.meta")),
    on_disk="cifar-10-batches-py/data_batch_1 to _5, test_batch, batches.meta", draw=None,
    protocol="train / test (Ericsson et al. 2021)", where="cs.toronto.edu/~kriz/cifar.html", licence=_NO_LICENCE,
    source="[tv]", each=6_000, aliases=("cifar10batchespy",),
    fetch=Fetch("CIFAR10", terms="no licence is stated; the pictures are from the web"), unconfirmed=("the licence",),
)  # fmt: skip

CIFAR100 = Entry(
    name="CIFAR100", title="small objects", suite="ericsson2021-trex", classes=100, images=60_000, train=50_000,
    test=10_000, layout=Torchvision("CIFAR100", at="cifar-100-python", marks=("train", "test", "meta")),
    on_disk="cifar-100-python/train, test, meta", draw=None, protocol="train / test (Ericsson et al. 2021)",
    where="cs.toronto.edu/~kriz/cifar.html", licence=_NO_LICENCE, source="[tv]", each=600,
    aliases=("cifar100python",), fetch=Fetch("CIFAR100", terms="no licence is stated; the pictures are from the web"),
    unconfirmed=("the licence",),
)  # fmt: skip

FASHION_MNIST = Entry(
    name="FashionMNIST", title="clothes, grey, 28x28", suite="other", classes=10, images=70_000, train=60_000,
    test=10_000,
    layout=Torchvision(
        "FashionMNIST", at="FashionMNIST/raw",
        marks=(
            "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte",
        ),
    ),
    on_disk="train-images-idx3-ubyte and the other three, also as .gz", draw=None, protocol="train / test",
    where="github.com/zalandoresearch/fashion-mnist; Debian's package dataset-fashion-mnist", licence="MIT",
    source="[tv]; the licence: Debian's package", each=7_000, aliases=("datasetfashionmnist",),
    fetch=Fetch("FashionMNIST"),
    run_on_archive="Debian's package dataset-fashion-mnist 0.0~git20200523.55506a9-1, 2026-11-22",
)  # fmt: skip

FOOD101 = Entry(
    name="Food101", title="dishes", suite="ericsson2021-trex", classes=101, images=101_000, train=75_750, test=25_250,
    layout=Torchvision("Food101", at="food-101", marks=("images", "meta/train.json", "meta/test.json")),
    on_disk="food-101/images/<class>/*.jpg; food-101/meta/train.json, test.json", draw=None,
    protocol="train / test (t-ReX; Ericsson et al. 2021)", where="data.vision.ee.ethz.ch/cvl/datasets_extra/food-101",
    licence="none stated; the pictures are Foodspotting's", source="[tv]; [trex]", each=1_000,
    fetch=Fetch("Food101", ({"split": "train"},), terms="no licence is stated; the pictures are Foodspotting's"),
    unconfirmed=("the licence",),
    notes=("labels of the training part are noisy on purpose; those of the test part were cleaned",),
)  # fmt: skip

PETS = Entry(
    name="Pets", title="breeds of cats and dogs (Oxford-IIIT Pet)", suite="ericsson2021-trex", classes=37, images=7_349,
    train=3_680, test=3_669,
    layout=Torchvision(
        "OxfordIIITPet", at="oxford-iiit-pet", marks=("images", "annotations/trainval.txt", "annotations/test.txt")
    ),
    on_disk="images/*.jpg; annotations/trainval.txt, test.txt", draw=None,
    protocol="trainval / test lists (t-ReX; Ericsson et al. 2021)", where="robots.ox.ac.uk/~vgg/data/pets",
    licence="CC BY-SA 4.0", source="[tv]; [trex]", metric="mean_class_accuracy",
    aliases=("oxfordiiitpet", "oxfordiiitpets", "oxfordpets"), fetch=Fetch("OxfordIIITPet"),
    unconfirmed=("images per class", "the licence"),
)  # fmt: skip

SUN397 = Entry(
    name="SUN397", title="scenes", suite="ericsson2021-trex", classes=397, images=39_700, train=19_850, test=19_850,
    layout=Lists(train="Training_01.txt", test="Testing_01.txt", skip=1),
    on_disk="SUN397/a/abbey/sun_*.jpg, ...; Training_01.txt and Testing_01.txt of Partitions.zip, beside or inside it",
    draw=None, protocol="first of the ten official partitions, 50 / 50 of each class (t-ReX; Ericsson et al. 2021)",
    where="its address vision.princeton.edu/projects/2010/SUN no longer has it (tensorflow/datasets#4807)",
    licence="research use only; the pictures are their photographers'",
    source="[tv] (a/abbey/sun_*.jpg); [ssl] datasets/sun397.py (Training_01.txt, lines /a/abbey/sun_*.jpg); [trex]",
    each=100,
    unconfirmed=("the licence",),
    notes=(("Islam et al.'s code draws 70/30 from all 108,754 images instead; it is not one of the data sets of their "
            "suite"),),
)  # fmt: skip

ERICSSON2021_TREX = (AIRCRAFT, CALTECH101, CARS, CIFAR10, CIFAR100, FASHION_MNIST, FOOD101, PETS, SUN397)
