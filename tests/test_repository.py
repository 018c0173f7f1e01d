"""What stands around the code agrees with itself: hooks, CI, citation, changelog, forms, pages of the site."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TARGETS = dict(re.findall(r"^([a-z-]+):(.*)$", (ROOT / "Makefile").read_text(), re.M))


def test_hooks_and_ci_run_the_same_targets():
    hooks = [
        h for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"] for h in repo["hooks"]
    ]
    assert [hook["entry"] for hook in hooks] == ["make lint", "make test-fast"]
    of_ci = re.findall(r"^make ([a-z-]+)$", (ROOT / ".ci" / "run").read_text(), re.M)
    assert of_ci == ["test", "docs"]
    assert {"lint", "test-fast", *of_ci} <= TARGETS.keys()
    assert "lint" in TARGETS["test"].split()


def test_the_citation_is_of_this_version_and_names_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    (paper,) = citation["references"]
    assert paper["url"] == PROJECT["urls"]["Paper"]
    assert len(paper["authors"]) == 7


def test_every_line_of_the_changelog_is_added_changed_or_fixed():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert "## [Unreleased]" in text
    assert set(re.findall(r"^### (.*)$", text, re.M)) <= {
        "Added",
        "Changed",
        "Deprecated",
        "Removed",
        "Fixed",
        "Security",
    }
    assert "\n- " not in text.split("\n### ")[0]


@pytest.mark.parametrize(
    "form", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.stem
)
def test_forms_of_issues_are_complete(form):
    fields = yaml.safe_load(form.read_text())
    assert {"name", "description", "body"} <= fields.keys()
    assert len({part["id"] for part in fields["body"]}) == len(fields["body"])


def test_every_page_is_in_the_table_of_contents():
    named = {line.strip() for line in (ROOT / "docs" / "index.md").read_text().splitlines()}
    pages = {path.relative_to(ROOT / "docs").with_suffix("").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert pages - named == {"index"}
