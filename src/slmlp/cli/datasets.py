"""The command slmlp data: list benchmark data sets, download one, check a copy of one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from slmlp import config
from slmlp.cli.answer import Answer
from slmlp.cli.table import Table
from slmlp.config.flags import argument
from slmlp.runtime.errors import SlmlpError

COLUMNS = ("data set", "classes", "images", "train / test", "protocol", "licence", "where to get it")


@dataclass(frozen=True)
class Data:
    """List the data sets that are known, download one, or check a copy for damage.

    `slmlp data list --datasets DIR` also shows which of them lie in DIR. `slmlp data get NAME` downloads into DIR where
    licence and checksums allow it, and else says what to fetch by hand. `slmlp data check NAME PATH` examines a copy of
    a known data set, `slmlp data check PATH` any folder or tar of images; exit code 1 says that something is wrong.

    Example: `slmlp data get EuroSAT --datasets my-datasets`, then `slmlp data check EuroSAT my-datasets/EuroSAT`
    """

    action: Literal["list", "get", "check"] = field(metadata=argument("{list,get,check}"))
    """What to do."""
    name: str | None = field(default=None, metadata=argument("[NAME]"))
    """A data set by name; for `check` also a path alone, or `folder` for images of your own."""
    path: str | None = field(default=None, metadata=argument("[PATH]"))
    """What to check: a folder or a tar."""
    datasets: str | None = None
    """Folder of data sets: what `list` looks through, and where `get` puts them (default there: `datasets`)."""
    accept_terms: bool = False
    """For `get`: agree to the terms of a data set that is not under an open licence."""
    quick: bool = False
    """For `check`: names and first bytes only, not the contents of the files."""
    markdown: bool = False
    """For `list`: print all that is known of each, as the documentation has it."""
    cache_dir: str | None = None
    """Where compressed tars are unpacked, and torchvision's files lie; default: a private folder in the temporary one,
    and ~/.cache/slmlp."""

    def run(self) -> Answer:
        """Do it."""
        if self.action == "list":
            return self._list()
        if self.name is None:
            expected = "slmlp data get NAME" if self.action == "get" else "slmlp data check NAME PATH"
            raise SlmlpError(f"slmlp data {self.action} needs to know what: {expected}; slmlp data list names them")
        return self._get(self.name) if self.action == "get" else self._check(self.name)

    def _options(self) -> config.DataOptions:
        return config.DataOptions(cache_dir=self.cache_dir)

    def _list(self) -> Answer:
        from slmlp.data import published

        datasets = published.find(self.datasets, self._options()) if self.datasets is not None else []
        there = [{"name": d.name, "path": d.path, "known": d.entry is not None, "problem": d.problem} for d in datasets]
        document = {"data_sets": [facts(entry) for entry in published.ENTRIES.values()], "there": there}
        if self.markdown:
            return Answer(document, lines=[markdown()])
        known = Table(COLUMNS, overview()).leading("data set", "classes", "images", "licence")
        run = [entry.name for entry in published.ENTRIES.values() if entry.run_on_archive]
        lines = [f"entries that were ever run on the real archive: {', '.join(run) or 'none'}; see docs/datasets.md"]
        if self.datasets is None:
            lines.append("slmlp data get NAME fetches one, or says how; slmlp data check NAME PATH examines a copy.")
            return Answer(document, [known], lines=lines)
        rows = [(d.name, "known" if d.entry else "your own", d.problem or "can be opened") for d in datasets]
        lines.append(f"missing of Islam et al. 2021: {', '.join(published.missing(datasets)) or 'none'}")
        found = Table((f"in {self.datasets}", "kind", "state"), rows)
        return Answer(document, [known, found], lines=lines, rows=found)

    def _get(self, name: str) -> Answer:
        from slmlp.data import published
        from slmlp.data.published import fetch

        entry, parent = published.get(name), Path(self.datasets or "datasets").expanduser()
        if entry.fetch is None:
            by_hand = fetch.by_hand(entry, parent)
            return Answer({"data_set": facts(entry), "folder": None, "by_hand": by_hand}, lines=[by_hand], code=1)
        folder = fetch.fetch(entry, parent, self._options(), accept_terms=self.accept_terms)
        line = f"{entry.name} is in {folder}: {entry.images:,} images of {entry.classes:,} classes; {entry.licence}"
        return Answer({"data_set": facts(entry), "folder": folder}, lines=[line])

    def _check(self, name: str) -> Answer:
        from slmlp.data import published
        from slmlp.data.published.check import check

        entry, text = None, self.path
        if text is None:
            text = name
            if published.known(name) is not None and not Path(name).expanduser().exists():
                raise SlmlpError(f"slmlp data check {name} needs to know where it is: slmlp data check {name} PATH")
        elif name != "folder":
            entry = published.get(name)
        path = Path(text).expanduser()
        if not path.exists():
            raise SlmlpError(f"data {text!r} does not exist: expected a folder or a tar")
        result = check(path, self._options(), entry, quick=self.quick)
        return Answer(result.as_json(), lines=[words(result)], code=0 if result.ok else 1)


def words(result: object) -> str:
    """Return a report of the check for the terminal."""
    from slmlp.data.published.check import EXAMPLES, ValidationReport

    assert isinstance(result, ValidationReport)
    train, test = result.parts
    parts = f"{train:,} train, {test:,} test" if test else "no test part"
    lines = [f"{result.name} in {result.path}: {result.images:,} images of {result.classes:,} classes, {parts}"]
    for finding in result.findings:
        lines.append(f"{finding.level:<6} {finding.check}: {finding.what}")
        lines += [f"         {example}" for example in finding.examples[:EXAMPLES]]
        if len(finding.examples) > EXAMPLES:
            lines.append(f"         ... {len(finding.examples):,} in all (--json lists them)")
        lines.append(f"       do: {finding.do}")
    lines.append(f"checked: {'; '.join(result.checked)}")
    wrong = sum(finding.level == "wrong" for finding in result.findings)
    lines.append("nothing is wrong" if result.ok else f"{wrong} {'thing is' if wrong == 1 else 'things are'} wrong")
    return "\n".join(lines)


def overview() -> list[tuple[str, ...]]:
    """Return one row of words for each entry."""
    from slmlp.data.published import ENTRIES

    rows: list[tuple[str, ...]] = []
    for entry in ENTRIES.values():
        drawn = entry.drawn()
        parts = "follow from the draw" if drawn is None else f"{drawn[0]:,} / {drawn[1]:,}"
        about = (f"{entry.classes:,}", f"{entry.images:,}", parts, entry.protocol, entry.licence, entry.where)
        rows.append((entry.name, *about))
    return rows


def markdown() -> str:
    """Return all that the entries say, as the documentation has it: the overview, then each by itself."""
    from slmlp.data.published import ENTRIES

    lines = [Table(COLUMNS, overview()).markdown()]
    for entry in ENTRIES.values():
        run = entry.run_on_archive or "no, never"
        lines += ["", f"### {entry.name}: {entry.title}", ""]
        lines += [f"- on disk: `{entry.on_disk}`", f"- metric: {entry.metric.replace('_', ' ')}"]
        lines += [f"- run on the real archive: {run}", f"- sources: {entry.source}"]
        lines += [f"- note: {note}" for note in entry.notes]
        if entry.unconfirmed:
            lines.append(f"- not confirmed by any source at hand: {'; '.join(entry.unconfirmed)}")
    return "\n".join(lines)


def facts(entry: object) -> dict[str, object]:
    """Return what the list shows of an entry, as plain JSON values."""
    from slmlp.data.published import Entry

    assert isinstance(entry, Entry)
    names = "name title suite classes images on_disk protocol where licence source metric"
    about: dict[str, object] = {name: getattr(entry, name) for name in names.split()}
    drawn = entry.drawn()
    about |= {"train": drawn and drawn[0], "test": drawn and drawn[1], "notes": list(entry.notes)}
    about |= {"unconfirmed": list(entry.unconfirmed), "run_on_archive": entry.run_on_archive}
    return about | {"download": entry.fetch is not None}
