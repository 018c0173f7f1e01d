"""Studies of other settings than ``test_study``'s, each trained for its test: tasks, labels, methods, rates."""

from __future__ import annotations

import pytest

from slmlp import config, report
from slmlp.config.names import display
from slmlp.experiments.study import main as study
from slmlp.report.inputs import read
from slmlp.report.study_curves import along_training
from slmlp.runtime import json_files
from slmlp.train.run import Run
from study_runs import FLAGS, here, slmlp, task

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--tasks linear", "unknown task 'linear'"),
        ("--tasks unseen-retrieval --retrieval.recall-at 1 102", "recall-at is 102, and an image has 101 others"),
        ("--tasks unseen-knn --knn.neighbours 102", "--knn.neighbours is 102, and an image has 101 others"),
    ],
)
def test_a_task_that_a_study_cannot_do_is_refused_before_training(shapes, tmp_path, capsys, flags, said):
    assert here("study", shapes, FLAGS, flags, "--out", tmp_path / "study") == 2
    (line,) = [text for text in capsys.readouterr().err.splitlines() if text.startswith("slmlp: ")]
    assert said in line
    assert not (tmp_path / "study" / "runs").exists()


def test_coarse_labels_are_told_and_the_page_names_them(shapes, shape_superclasses, tmp_path):
    out = tmp_path / "coarse"
    held_out = tmp_path / "held.txt"
    held_out.write_text("cross\nmoon\n")
    flags = FLAGS.replace("--split.by random --split.unseen-fraction 0.5", f"--split.by file --split.file {held_out}")
    flags = flags.replace("--rates 0.1 0.2", "--rates 0.2").replace("--seeds 2", "--seeds 1")
    made = slmlp("study", shapes, flags, "--labels superclass --superclasses", shape_superclasses, "--out", out)
    assert made.returncode == 0, made.stderr
    run = Run(out / "runs" / "sl-mlp-seed0")
    assert run.config["class_names"] == ["edged", "round"]
    assert run.config["resolved"]["training_images"] == 4 * 24
    assert any(
        "over images only, one seed" in words for words in json_files.read(out / "verdict.json", dict)["sentences"]
    )


def test_a_study_of_more_methods_pairs_them_and_counts_their_compute(shapes, tmp_path):
    cfg = config.Study(
        methods=("sl", "sl-mlp:training.epochs=2", "simclr", "simclr:projector.depth=0:seeds=1"), seeds=2, rates=(0.1,),
        training=config.StudyTraining(
            encoder="resnet10", image_size=16, batch_size=24, epochs=1, save_every=1, augment="weak"
        ),
        split=config.Split(by="random", unseen_fraction=0.5), probe=config.Probe(folds=3),
    )  # fmt: skip
    page = study.study(str(shapes), tmp_path / "study", cfg).read_text()
    verdict = task(tmp_path / "study")
    assert [(c["a"], c["b"], c["seeds"]) for c in verdict["pairs"]] == [
        ("simclr:projector.depth=0:seeds=1", "simclr", 1)
    ]
    assert [c["seeds"] for c in verdict["comparisons"]] == [2, 2, 1]
    compute = json_files.read(tmp_path / "study" / "study.json", dict)["compute"]
    assert list(compute.values()) == [1, 2, 2, 2]
    assert "The MLP as a switch" in page
    assert "training compute" in page
    folder = tmp_path / "study"
    [table] = report.tables(folder)
    assert {row.label: row.note for row in table.rows}[display("simclr:projector.depth=0:seeds=1")].endswith("one seed")
    assert sum("seed" in row.note for row in table.rows) == 1  # the others have all that were asked for
    assert "(where fewer, the row says so)" in table.note
    longer = "sl-mlp:training.epochs=2"
    assert list(json_files.read(folder / "study.json", dict)["epochs"].values()) == [1, 2, 1, 1]
    held = {r.epoch: r.value for r in read(folder).find("unseen", "accuracy", longer, role="curve") if r.seed == 0}
    (final,) = (r.value for r in read(folder).find("unseen", "accuracy", longer, role="final") if r.seed == 0)
    drawn = dict(along_training(read(folder), "unseen", "accuracy", longer)[0])
    assert (drawn[1], drawn[2]) == (held[1], final)  # its end stands at its own last epoch, not at the study's
    assert not (tmp_path / "study" / "runs" / "simclr_projector.depth=0_seeds=1-seed1").exists()


def test_a_rate_that_diverges_is_left_out_and_named(shapes, tmp_path):
    cfg = config.Study(
        methods=("sl",), seeds=1, rates=(0.1, 1e30), parallel=1,
        training=config.StudyTraining(
            encoder="resnet10", image_size=16, batch_size=24, epochs=1, save_every=0, augment="weak"
        ),
        split=config.Split(by="random", unseen_fraction=0.5), probe=config.Probe(folds=3),
    )  # fmt: skip
    study.study(str(shapes), tmp_path / "study", cfg)
    summary_ = json_files.read(tmp_path / "study" / "study.json", dict)
    assert summary_["rates"]["chosen"] == {"sl": 0.1}
    assert list(summary_["rates"]["failed"]["sl"]) == ["1e+30"]
