"""Break slmlp on purpose and count how it ends: ``python tests/faults [PART ...] [--tries N]``; ``make faults``.

Parts: ``kills`` (SIGKILL at every write and at random moments, signals, full disks, folders taken, two writers),
``damage`` (a flipped bit or a cut in every file that numbers come from), ``fuzz`` (mutated inputs of every reader,
pickles that would run code), ``long`` (thousands of steps, a clock set back, one of two processes killed). Each fault
is printed with how to see it again; exit code 1 if there is one.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: a process that forks must have no threads of its own
ROOT = Path(__file__).resolve().parents[2]
PARTS = ("kills", "damage", "fuzz", "long")
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- counts: begin -->", "<!-- counts: end -->"
LOADED = [
    "slmlp.api",
    "slmlp.cli.studying",
    "slmlp.cli.pretraining",
    "slmlp.cli.transfer",
    "slmlp.cli.measuring",
    "slmlp.cli.exporting",
    "slmlp.cli.detecting",
    "slmlp.experiments.single",
    "slmlp.experiments.study.main",
    "slmlp.experiments.suite.main",
    "slmlp.experiments.features",
    "slmlp.detection",
    "slmlp.report.page",
    "slmlp.report.study",
    "slmlp.report.suite",
    "slmlp.report.detection",
    "slmlp.exports.safetensors_file",
    "slmlp.evaluation.tasks.linear",
    "slmlp.evaluation.tasks.knn",
    "slmlp.evaluation.tasks.centroid",
    "slmlp.evaluation.tasks.unseen",
    "slmlp.evaluation.tasks.measures",
    "slmlp.methods.sl",
    "slmlp.report.figures",
    "slmlp.report.study_curves",
    "slmlp.exports.card",
    "sklearn.manifold",
    "scipy.stats",
    "torch.utils.tensorboard",
    "faster_coco_eval",
    "rich.progress",
]


def main() -> int:
    """Run the parts, print the table, and with ``--write`` keep it in docs/reliability.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[])
    parser.add_argument("--tries", type=int, default=100, help="of each kind of harm; docs/reliability.md has 100")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="commands, divided by commas")
    parser.add_argument("--input", nargs=2, metavar=("READER", "FILE"), help="give a kept input to its reader again")
    parser.add_argument("--harm", nargs="+", help="kinds of harm of the parts, in the words of the table")
    parser.add_argument(
        "--record",
        type=Path,
        help="a file of finished counts: what it has is not counted again; docs/reliability.jsonl",
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="put the table of --record into docs/reliability.md; without PART nothing is run",
    )
    given = parser.parse_args()
    for name in LOADED:
        importlib.import_module(name)
    import torch
    from counting import Held, held, keep, table
    from fuzz import again
    from world import COMMANDS, World

    torch.set_num_threads(1)
    if given.only:
        for name in set(COMMANDS) - set(given.only.split(",")):
            del COMMANDS[name]
    began, counts = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        world = World(Path(folder))
        if given.parts or not given.write:
            world.make()
        if given.input:
            again(world, given.input[0], Path(given.input[1]))
            return 0
        done = Held(held(given.record), given.harm)
        for part in given.parts or ([] if given.write else PARTS):
            for count in importlib.import_module(part).counts(world, given.tries, given.seed, done):
                counts.append(count)
                if given.record:
                    keep(given.record, count)
                bad = f", FAULTS: {len(count.faults)}" if count.faults else ""
                print(f"{count.part}, {count.what}: {count.tries:,} tries{bad} ({count.seconds:.0f} s)", flush=True)
                for fault in count.faults[:5]:
                    print(f"    {fault}", flush=True)
    if given.record:
        counts = list(held(given.record).values())
    text = table(counts)
    print(f"\n{text}\n\n{(time.monotonic() - began) / 60:.0f} minutes, --tries {given.tries} --seed {given.seed}")
    if given.write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")
    return 1 if any(count.faults for count in counts) else 0


if __name__ == "__main__":
    sys.exit(main())
