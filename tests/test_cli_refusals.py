"""What cannot be is refused before a library is loaded: in a second process, which tells whether torch was."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import pytest
from safetensors.numpy import save_file

from slmlp.config import networks
from slmlp.config.training import AUGMENTS

CODE = """
import sys
from slmlp.cli import main
code = main(sys.argv[1:])
print("\\n".join(sorted({"torch", "timm", "sklearn"} & sys.modules.keys())), file=sys.stdout)
raise SystemExit(code)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("refusals")
    from numpy import zeros

    save_file({"conv.weight": zeros((4, 3, 3, 3), "float32")}, folder / "lite0.safetensors")
    (folder / "empty").mkdir()
    (folder / "lite0.pth").write_bytes(b"PK")
    return folder


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("study missing --out o", "data 'missing' does not exist"),
        ("study emoji --methods sl,barlow --out o", "unknown method 'barlow'"),
        ("study emoji --methods sl:cosine=often --out o", "--methods sl:cosine=often"),
        ("study emoji --split.by alphabet --out o", "--split.by must be auto, file"),
        ("study emoji --tasks unseen-kn --out o", "did you mean 'unseen-knn'"),
        ("study emoji --seeds few --out o", "--seeds must be a whole number, found 'few'"),
        ("study emoji --augment moco --out o", "did you mean 'moco-v2'"),
        ("pretrain missing --out o", "data 'missing' does not exist"),
        ("pretrain emoji --method slmlp --out o", "did you mean 'sl-mlp'"),
        ("pretrain emoji --recipe simclr --out o", "unknown recipe"),
        ("pretrain emoji --split no.json --out o", "--split: there is no file no.json"),
        ("pretrain emoji --init timm:resnet18@no.safetensors --out o", "no file no.safetensors"),
        ("pretrain emoji --base-lr -1 --out o", "--base-lr"),
        ("pretrain --resume empty", "empty holds no run"),
        ("evaluate lite0.safetensors emoji", "timm:NAME@lite0.safetensors"),
        ("evaluate lite0.pth emoji", "timm:NAME@lite0.pth"),
        ("evaluate nothing emoji", "no encoder at nothing"),
        ("evaluate timm:resnet18@nothing.pth emoji", "no file nothing.pth"),
        ("pretrain emoji --encoder resnet81 --out o", "did you mean 'resnet18' or 'resnet10'"),
        ("study emoji --encoder resnet51d.ra_in1k --out o", "unknown encoder 'resnet51d.ra_in1k'"),
        ("evaluate timm:resnet81 emoji", "unknown timm model 'resnet81': did you mean 'resnet18'"),
        ("evaluate torchvision:resnet81 emoji", "unknown torchvision model 'resnet81': did you mean 'resnet18'"),
        ("study emoji --init timm:resnt50.a1_in1k --out o", "unknown timm model 'resnt50.a1_in1k'"),
        ("suite mine=timm:resnet81 --also emoji --out o", "unknown timm model 'resnet81'"),
        ("features timm:resnet81@random emoji --out o.npz", "unknown timm model 'resnet81'"),
        ("detect timm:resnet81 coco --out o", "unknown timm model 'resnet81'"),
        ("evaluate timm:resnet18 emoji --task knm", "did you mean 'knn'"),
        ("evaluate timm:resnet18 --datasets nowhere", "--datasets: there is no folder nowhere"),
        ("suite mine=lite0.safetensors --also emoji --out o", "timm:NAME@lite0.safetensors"),
        ("suite timm:resnet18 --also nowhere --out o", "data 'nowhere' does not exist"),
        ("features nothing emoji --out f.npz", "no encoder at nothing"),
        ("measure nothing.npz", "there is no file nothing.npz"),
        ("compare empty --out o", "empty holds no run"),
        ("export empty --to onx --out o", "did you mean 'onnx'"),
        ("export nothing --to onnx --out o", "no encoder at nothing"),
        ("split emoji --by file --file no.txt --out o", "--file: there is no file no.txt"),
        ("detect timm:resnet18 --train-json no.json --out o", "--train-json: there is no file no.json"),
    ],
)
def test_it_is_refused_before_a_library_is_loaded(place, words, said):
    before = processor_time()
    done = subprocess.run(
        [sys.executable, "-c", CODE, *words.split()], capture_output=True, text=True, check=False, cwd=place
    )
    took = processor_time() - before
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert said in line
    assert done.stdout.split() == []
    assert took < 1.5  # 0.2 to 0.5 s; torch alone takes more than two
    assert sorted(path.name for path in place.iterdir()) == ["empty", "lite0.pth", "lite0.safetensors"]


def test_every_name_that_the_libraries_take_is_known_by_their_files():
    import timm
    import torchvision
    from timm.models import _registry

    current, old = networks.read("timm")
    assert current == set(timm.list_models())
    assert current | old == set(_registry._model_entrypoints)
    for name in [*timm.list_pretrained(), *timm.list_models(include_tags=True), "tf_efficientnet_b0.ns_jft_in1k"]:
        assert timm.is_model(name)
        assert name.partition(".")[0] in current
    assert networks.read("torchvision") == (set(torchvision.models.list_models(module=torchvision.models)), set())
    # once a library is loaded it is asked itself: a file of the user's may have added networks to it
    assert networks.names("timm") == (frozenset(), frozenset())


def processor_time():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_every_augmentation_is_known_without_torch():
    from slmlp.data.augment import recipes

    assert tuple(recipes.VIEWS) == AUGMENTS


def test_a_header_that_is_none_is_told_by_whoever_reads_the_file(tmp_path):
    from slmlp.config.sources import encoder_kind

    header = json.dumps(["no", "object"]).encode()
    for content in (b"", b"\xff" * 12, len(header).to_bytes(8, "little") + header):
        file = tmp_path / "odd.safetensors"
        file.write_bytes(content)
        assert encoder_kind(str(file)) == "run"
