"""The data sets of Islam et al. (ICCV 2021), under the parts that the code of that paper makes.

Sources: [broad] github.com/asrafulashiq/transfer_broad (data_loader/: additional_data.py, helper.py, utils_data.py,
config_path.yaml, download.sh); [cdfsl] github.com/IBM/cdfsl-benchmark; [tv] torchvision 0.29's class.
"""

from __future__ import annotations

from slmlp.data.published.entry import Draw, Entry, Fetch, Folders, Labels, Torchvision, names

SEVENTY = Draw(percent=70)
_DRAWN = "70/30 of each class, drawn with RandomState(0) (Islam et al. 2021)"
_RESEARCH = "research use only, as its page says"

CHESTX = Entry(
    name="ChestX", title="chest X-rays with one of seven findings", suite="islam2021", classes=7, images=25_848,
    layout=Labels(
        files=("Data_Entry_2017.csv", "Data_Entry_2017_v2020.csv"), image="Image Index", label=("Finding Labels",),
        keep=("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumothorax"),
        folders=("images",),
    ),
    on_disk="Data_Entry_2017.csv; images_001/images/*.png to images_012/images/*.png, or images/*.png",
    draw=SEVENTY, protocol=_DRAWN + "; images with exactly one finding, of those seven",
    where="NIH Clinical Center, nihcc.app.box.com/v/ChestXray-NIHCC: images_001 to images_012 and Data_Entry_2017.csv",
    licence="free to use with acknowledgement of the NIH Clinical Center",
    source="[broad] additional_data.py: columns 1 and 2, the seven findings, 25,848",
    per_class={
        "Atelectasis": 4_215, "Cardiomegaly": 1_093, "Effusion": 3_955, "Infiltration": 9_547, "Mass": 2_139,
        "Nodule": 2_705, "Pneumothorax": 2_194,
    },
    aliases=("chestxray14", "nihchestxray", "chest_xray", "chestx-ray8"),
    notes=(
        "the protocol splits images, not patients: X-rays of one patient are in both parts",
        "labels were mined from reports by a program",
    ),
    unconfirmed=("images per class (their sum is the protocol's 25,848)", "the licence"),
)  # fmt: skip

CROPDISEASE = Entry(
    name="CropDisease", title="leaves, healthy or with a disease (PlantVillage)", suite="islam2021", classes=38,
    images=54_305, train=43_456, test=10_849, layout=Folders(inside="CropDiseases", parts=True),
    on_disk="CropDiseases/train/<class>/*.JPG and CropDiseases/test/<class>/*.JPG; dataset/train, dataset/test too",
    draw=None, protocol="train and test folders of the archive (Islam et al. 2021)",
    where="kaggle.com/saroz014/plant-disease, or the CropDiseases.zip that CD-FSL points to",
    licence="CC BY-SA 3.0 (PlantVillage)",
    source="[broad] config_path.yaml (counts), additional_data.py (folders train, test); [cdfsl] README.md",
    aliases=("cropdiseases", "plantdisease", "plantdiseases"),
    notes=("several pictures of one leaf may be in both parts",),
    unconfirmed=("images per class", "the licence", "encoding and size of the images"),
)  # fmt: skip

DEEPWEEDS = Entry(
    name="DeepWeeds", title="Australian weeds in the field", suite="islam2021", classes=9, images=17_509,
    layout=Labels(files=("labels.csv",), image="Filename", label=("Species",), folders=("images",)),
    on_disk="labels.csv (or labels/labels.csv); images/*.jpg",
    draw=SEVENTY, protocol=_DRAWN,
    where="github.com/AlexOlsen/DeepWeeds: images.zip, unpacked into images/, and labels/labels.csv",
    licence="CC BY 4.0", source="AlexOlsen/DeepWeeds README.md and labels/labels.csv (Filename,Label,Species); [broad]",
    per_class={
        "Chinee apple": 1_125, "Lantana": 1_064, "Parkinsonia": 1_031, "Parthenium": 1_022, "Prickly acacia": 1_062,
        "Rubber vine": 1_009, "Siam weed": 1_074, "Snake weed": 1_016, "Negative": 9_106,
    },

    notes=("pictures taken seconds apart are in both parts", "half of the images are of class Negative"),
    unconfirmed=("images per class (their sum is the published 17,509)",),
)  # fmt: skip

DTD = Entry(
    name="DTD", title="describable textures", suite="islam2021", classes=47, images=5_640, train=3_760, test=1_880,
    layout=Torchvision(
        "DTD", at="dtd/dtd", marks=("images", "labels/train1.txt", "labels/val1.txt", "labels/test1.txt")
    ),
    on_disk="dtd/images/<class>/*.jpg; dtd/labels/train1.txt, val1.txt, test1.txt",
    draw=None, protocol="train1 and val1 / test1 (Islam et al. 2021; Ericsson et al. 2021)",
    where="robots.ox.ac.uk/~vgg/data/dtd, release r1.0.1", licence=_RESEARCH,
    source="[tv]; [broad] additional_data.py", each=120,
    aliases=("describabletextures",), unconfirmed=("the licence",),
    fetch=Fetch("DTD", ({"split": "train"},), terms=_RESEARCH),
)  # fmt: skip

EUROSAT = Entry(
    name="EuroSAT", title="land use from Sentinel-2 (RGB)", suite="islam2021", classes=10, images=27_000,
    layout=Folders(inside="2750"), on_disk="2750/<class>/*.jpg", draw=SEVENTY, protocol=_DRAWN,
    where="github.com/phelber/EuroSAT: EuroSAT.zip", licence="MIT",
    source="[tv] (2750/<class>); [broad] download.sh",
    per_class={
        **names("AnnualCrop Forest HerbaceousVegetation Residential SeaLake", each=3_000),
        **names("Highway Industrial PermanentCrop River", each=2_500), **names("Pasture", each=2_000),
    },
    aliases=("eurosatrgb",), fetch=Fetch("EuroSAT", folder="eurosat"),
    unconfirmed=("images per class (their sum is the published 27,000)",),
)  # fmt: skip

FLOWERS102 = Entry(
    name="Flowers102", title="British flowers", suite="islam2021", classes=102, images=8_189, train=2_040, test=6_149,
    layout=Torchvision("Flowers102", at="flowers-102", marks=("jpg", "imagelabels.mat", "setid.mat")),
    on_disk="jpg/image_*.jpg; imagelabels.mat; setid.mat",
    draw=None, protocol="train and valid / test of setid.mat (Islam et al. 2021 as fixed for ICCV)",
    where="robots.ox.ac.uk/~vgg/data/flowers/102", licence="none stated; the pictures are their photographers'",
    source="[tv]; [broad] additional_data.py",
    aliases=("flowers-102", "102flowers", "oxfordflowers102", "oxford102flowers"),
    fetch=Fetch(
        "Flowers102", ({"split": "train"},), terms="no licence is stated; the pictures are their photographers'"
    ),
    notes=(
        "an earlier version of the benchmark trained on the official test part (a comment in its code says so)",
        "accuracy, as Islam et al. report; Kornblith et al. and Ericsson et al. report the mean over classes",
    ),
    unconfirmed=("the licence",),
)  # fmt: skip

ISIC = Entry(
    name="ISIC", title="skin lesions (ISIC 2018 task 3, HAM10000)", suite="islam2021", classes=7, images=10_015,
    layout=Labels(
        files=("ISIC2018_Task3_Training_GroundTruth.csv",), image="image",
        label=("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC"), kind="one-hot", suffix=".jpg",
        folders=("ISIC2018_Task3_Training_Input",),
    ),
    on_disk=(
        "ISIC2018_Task3_Training_GroundTruth/ISIC2018_Task3_Training_GroundTruth.csv; "
        "ISIC2018_Task3_Training_Input/*.jpg"
    ),
    draw=SEVENTY, protocol=_DRAWN,
    where="challenge.isic-archive.com/data, 2018, task 3: training data and training ground truth",
    licence="CC BY-NC 4.0",
    source="[cdfsl] datasets/ISIC_few_shot.py; [broad] additional_data.py (same table; a resized copy with .JPG)",
    per_class={"MEL": 1_113, "NV": 6_705, "BCC": 514, "AKIEC": 327, "BKL": 1_099, "DF": 115, "VASC": 142},
    aliases=("isic2018", "ham10000", "isic2018task3"),
    notes=("the protocol splits images, not lesions: of 7,470 lesions many have images in both parts",),
    unconfirmed=("the licence",),
)  # fmt: skip

KAOKORE = Entry(
    name="Kaokore", title="faces in Japanese paintings: gender and status (version 1.1)", suite="islam2021", classes=8,
    images=7_389, train=6_568, test=821,
    layout=Labels(
        files=("labels.csv",), image="image", label=("gender", "status"), kind="joined", part="set",
        words={
            ("gender", "0"): "male", ("gender", "1"): "female", ("status", "0"): "noble", ("status", "1"): "warrior",
            ("status", "2"): "incarnation", ("status", "3"): "commoner",
        },
        folders=("images_256",),
    ),
    on_disk="labels.csv (image,gender,status,set); images_256/*.jpg",
    draw=None, protocol="set column: train / test, dev unused; class = gender x 4 + status (Islam et al. 2021)",
    where="github.com/roi_batch_size-codh/kaokore: download.py with dataset_version 1.1", licence="CC BY-SA 4.0",
    source=(
        "roi_batch_size-codh/kaokore dataset_v1.1/labels.csv (6,568 train, 826 dev, 821 test), download.py "
        "(images_256), dataset_v1.3/labels.metadata.en.txt (words); [broad] additional_data.py"
    ),
    incomplete=True,
    notes=(
        "pictures are fetched one by one from museums and some are gone: missing ones are left out here; the "
        "published code replaces each by a random other image",
    ),
)  # fmt: skip

OMNIGLOT = Entry(
    name="Omniglot", title="handwritten characters (evaluation alphabets)", suite="islam2021", classes=659,
    images=13_180,
    layout=Folders(inside="images_evaluation", depth=2), on_disk="images_evaluation/<alphabet>/<character>/*.png",
    draw=SEVENTY, protocol="14 / 6 of each character, drawn with RandomState(0) (Islam et al. 2021)",
    where="github.com/brendenlake/omniglot: python/images_evaluation.zip", licence="MIT",
    source="[tv]; [broad] additional_data.py (background=False)", each=20,
    aliases=("omniglotpy",), fetch=Fetch("Omniglot", ({"background": False},), folder="omniglot-py", again=True),
    notes=(
        "the configuration of the benchmark says 1,623 characters; its code reads these 659",
        "its code lists folders in no fixed order, so its very draw cannot be had again: ours goes by sorted names",
    ),
)  # fmt: skip

RESISC45 = Entry(
    name="Resisc45", title="scenes from the air (NWPU-RESISC45)", suite="islam2021", classes=45, images=31_500,
    layout=Folders(inside="NWPU-RESISC45"), on_disk="NWPU-RESISC45/<class>/<class>_001.jpg to _700.jpg", draw=SEVENTY,
    protocol="490 / 210 of each class, drawn with RandomState(0) (Islam et al. 2021)",
    where="the OneDrive archive that tensorflow.org/datasets/catalog/resisc45 points to: NWPU-RESISC45.rar",
    licence="none stated by its authors", source="TensorFlow Datasets: resisc45 (45 x 700 of 256x256); [broad]",
    per_class=names(
        "airplane airport baseball_diamond basketball_court beach bridge chaparral church circular_farmland cloud",
        "commercial_area dense_residential desert forest freeway golf_course ground_track_field harbor industrial_area",
        "intersection island lake meadow medium_residential mobile_home_park mountain overpass palace parking_lot",
        "railway railway_station rectangular_farmland river roundabout runway sea_ice ship snowberg sparse_residential",
        "stadium storage_tank tennis_court terrace thermal_power_station wetland", each=700,
    ),
    aliases=("nwpuresisc45", "resisc"),
    notes=(
        "the published code cuts at int(0.7 * 700), which is 489 in floating point: its parts are 22,005 / 9,495, and "
        "one image per class that is training data here was test data there",
    ),
    unconfirmed=("the licence", "that all files are JPEG"),
)  # fmt: skip

SKETCH = Entry(
    name="Sketch", title="sketches of the ImageNet classes (ImageNet-Sketch)", suite="islam2021", classes=1_000,
    images=50_889, layout=Folders(inside="sketch"), on_disk="sketch/<WordNet id>/sketch_*.JPEG", draw=SEVENTY,
    protocol=_DRAWN,
    where="github.com/HaohanWang/ImageNet-Sketch: ImageNet-Sketch.zip",
    licence="MIT (its repository's); the drawings are from the web",
    source="HaohanWang/ImageNet-Sketch scripts/sketchPath.txt (paths); [broad] config_path.yaml (50,889)",
    aliases=("imagenetsketch",),
    notes=("all its classes are ImageNet's: it says nothing about unseen concepts",),
    unconfirmed=("images per class", "encoding of the images"),
)  # fmt: skip

SVHN = Entry(
    name="SVHN", title="house numbers", suite="islam2021", classes=10, images=99_289, train=73_257, test=26_032,
    layout=Torchvision("SVHN", at="", marks=("train_32x32.mat", "test_32x32.mat")),
    on_disk="train_32x32.mat; test_32x32.mat", draw=None, protocol="train / test files (Islam et al. 2021)",
    where="ufldl.stanford.edu/housenumbers", licence="non-commercial use only", source="[tv]; [broad] config_path.yaml",
    per_class={
        "0": 6_692, "1": 18_960, "2": 14_734, "3": 11_379, "4": 9_981, "5": 9_266, "6": 7_704, "7": 7_614, "8": 6_705,
        "9": 6_254,
    },

    fetch=Fetch("SVHN", ({"split": "train"}, {"split": "test"}), terms="non-commercial use only"),
    unconfirmed=("images per class (their sum is the published 99,289)", "the licence"),
)  # fmt: skip

ISLAM2021 = (
    CHESTX, CROPDISEASE, DEEPWEEDS, DTD, EUROSAT, FLOWERS102, ISIC, KAOKORE, OMNIGLOT, RESISC45, SKETCH, SVHN,
)  # fmt: skip
