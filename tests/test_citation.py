"""CITATION.cff says what pyproject.toml and the report say."""

from __future__ import annotations

import tomllib
from pathlib import Path

import yaml

from decaylab.pages import report

ROOT = Path(__file__).parents[1]


def test_the_citation_has_version_and_licence_of_the_package_and_the_paper_of_the_report() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert citation["keywords"] == project["keywords"]
    assert f"title   = {{{citation['title']}}}" in report.SOFTWARE
    assert f"{{{{{citation['authors'][0]['name']}}}}}" in report.SOFTWARE
    (paper,) = citation["references"]
    assert f"{{{paper['title']}}}" in report.PAPER and f"{{{paper['url']}}}" in report.PAPER
    names = [
        one.get("name") or f"{one['given-names']} {one['family-names']}" for one in paper["authors"]
    ]
    assert f"{{{' and '.join(names)}}}" in report.PAPER
