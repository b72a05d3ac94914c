"""The documentation says what is there: generated pages, commands, links, examples."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys

import pytest
import sources

ROOT = sources.ROOT
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        ROOT / "examples" / "README.md",
        ROOT / "bench" / "README.md",
    ]
)
EXAMPLES = sorted(ROOT.glob("examples/*.py"))


def label(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("generator", ["generate.py", "api_reference.py"])
def test_generated_pages_are_up_to_date(generator):
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / generator), "--check"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_links_lead_somewhere(page):
    text = re.sub(r"```[\s\S]*?```", "", page.read_text())
    broken = [
        target
        for target in re.findall(r"\]\(([^)\s]+)\)", text)
        if not re.match(r"[a-z]+:", target)
        and not target.startswith("#")
        and not (page.parent / target.partition("#")[0]).exists()
    ]
    assert not broken


def commands(page):
    """The shell commands of a page: indented or fenced lines that begin with one."""
    for line in page.read_text().splitlines():
        match = re.match(
            r"(?:    |\$ )?((?:python3?|scoop-run|pip|pytest|\.venv/bin/\w+|\.ci/run)\b.*)", line
        )
        if match and (line.startswith(("    ", "$ ")) or page.name != "README.md"):
            yield from re.split(r"\s*&&\s*", match[1])


def missing_files(command):
    """What a command names and nobody made."""
    words = shlex.split(command, comments=True)
    for word in words:
        if re.fullmatch(r"(examples|docs|bench|tests|\.ci)/[\w./-]+", word) and not (ROOT / word).exists():
            yield word
    if "-m" in words[:3]:
        module = words[words.index("-m") + 1]
        if module.split(".")[0] in ("scoop", "bench"):
            place = ROOT.joinpath(*module.split("."))
            if not (place.with_suffix(".py").exists() or (place / "__main__.py").exists()):
                yield module


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_commands_name_what_exists(page):
    wrong = [(command, name) for command in commands(page) for name in missing_files(command)]
    assert not wrong


OWN_MODULES = sorted(
    {found for page in PAGES for found in re.findall(r"python -m ((?:tests|bench)[\w.]*)", page.read_text())}
)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("module", OWN_MODULES)
def test_longer_runs_can_be_asked_for_help(module):
    # CI has no time for them, so nothing else would notice that one does not start any more.
    command = [sys.executable, "-m", module, "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ")


def test_the_readme_has_the_two_commands_and_ci_runs_the_second():
    found = [
        line.strip()
        for line in (ROOT / "README.md").read_text().splitlines()
        if line.startswith("    python3")
    ]
    assert len(found) == 2, found
    install, check = found
    assert install.endswith("examples/pi.py")
    assert "--group test" in check
    assert check in (ROOT / ".ci" / "run").read_text()


def test_scoop_run_leads_somewhere():
    text = (ROOT / "pyproject.toml").read_text()
    module, _, function = re.search(r'^scoop-run = "([\w.]+)(:)(\w+)"', text, re.MULTILINE).groups()
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize("example", EXAMPLES, ids=label)
def test_every_example_is_listed_and_run(example):
    assert f"`{example.name}`" in (ROOT / "examples" / "README.md").read_text()
    tests = "\n".join(path.read_text() for path in (ROOT / "tests" / "examples").glob("*.py"))
    assert re.search(rf"\b{example.stem}\b", tests) or "glob(" in tests, "no test runs it"


def test_the_changelog_has_a_place_for_the_next_entry():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(r"^## Unreleased$", text, re.MULTILINE)


def test_no_paths_of_one_machine():
    # Folders of people and of machines; /tmp, /dev, /proc and the like are everywhere.
    pattern = re.compile(r"(?<![\w./~-])/(?:work|root|home|Users|scratch|mnt|opt)/[\w.-]+")
    allowed = re.compile(r"/(?:home|Users)/(?:alice|me|you|user|\.\.\.)\b|/opt/(?:slurm|mpi)\b")
    found = []
    for path in sources.tracked_files():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        found += [
            f"{label(path)}:{number}: {match.group()}"
            for number, line in enumerate(text.splitlines(), start=1)
            for match in pattern.finditer(line)
            if not allowed.match(match.group())
        ]
    assert not found


def test_every_module_is_in_the_tree_of_the_architecture():
    text = (ROOT / "docs" / "architecture.md").read_text()
    named = set(re.findall(r"\w+", text))
    missing = sorted(
        str(path.relative_to(ROOT))
        for path in sources.modules().values()
        if path.stem not in ("__init__", "__main__") and path.stem not in named
    )
    assert not missing
