"""The table of faults is complete, and the tests that it names exist."""

from __future__ import annotations

import re

import sources

TEXT = (sources.ROOT / "docs" / "reliability.md").read_text()
ROWS = re.findall(r"^\| (\d+) \| (.*)$", TEXT, re.MULTILINE)


def test_every_fault_has_its_row():
    assert [int(number) for number, _ in ROWS] == list(range(1, 47))
    for number, text in ROWS:
        cells = [cell.strip() for cell in re.split(r" \|(?= |$)", text)]
        fault, holds, today, shown, missing = cells[:5]
        assert holds in ("yes", "part", "no"), f"row {number} does not say whether it holds"
        assert fault, number
        assert today, number
        assert shown or missing, f"row {number} names neither a test nor what is missing"


def test_the_tests_that_it_names_exist():
    file, missing = "", []
    for name in re.findall(r"`((?:\w+/)?\w*(?:::test_\w+)?)(?:\[[^`]*\])?`", TEXT):
        path, _, test = name.partition("::")
        file = path or file
        if test:
            found = sources.ROOT / "tests" / f"{file}.py"
            if not found.exists() or f"def {test}(" not in found.read_text():
                missing.append(f"{file}::{test}")
    assert not missing
