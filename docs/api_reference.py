"""Writes docs/api.md, the options in docs/operations.md and the files in docs/architecture.md from the code.

python docs/api_reference.py            # write them
python docs/api_reference.py --check    # say what is out of date, and exit with status 1 if anything is
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

DOCS = Path(__file__).resolve().parent
sys.path.append(str(DOCS.parent))  # an installed scoop comes first

MODULES = ("scoop", "scoop.futures", "scoop.shared", "scoop.errors")
METHODS_OF = ("Executor", "Future")
STANDARD = "concurrent.futures"
SECTIONS = ("Args:", "Returns:", "Yields:", "Raises:", "Attributes:", "Example:", "Examples:")
TABLE_START, TABLE_END = "<!-- options: made by api_reference.py -->\n", "<!-- end of options -->\n"
FILES_START, FILES_END = "<!-- files: made by api_reference.py -->\n", "<!-- end of files -->\n"

INTRODUCTION = """# API reference

Made from the docstrings by `docs/api_reference.py`; edit those. The [guide](guide.md) explains how things fit
together. All of `scoop.futures` may be used from any thread and inside tasks.
"""


def parameter_text(parameter: inspect.Parameter) -> str:
    """A parameter as it was written: annotations are strings and stay without quotes."""
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}
    text = stars.get(parameter.kind, "") + parameter.name
    annotated = parameter.annotation is not parameter.empty
    if annotated:
        text += f": {annotation_text(parameter.annotation)}"
    if parameter.default is not parameter.empty:
        default = repr(parameter.default)
        default = "..." if " at 0x" in default else default  # a mark of its own: no value at all
        text += f" = {default}" if annotated else f"={default}"
    return text


def annotation_text(annotation: Any) -> str:
    """An annotation as it was written, as far as Python keeps that."""
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def signature_text(obj: Any) -> str:
    """The parameters and the result of a callable; empty if Python cannot tell."""
    try:
        signature = inspect.signature(obj)
    except (TypeError, ValueError):
        return ""
    parts: list[str] = []
    parameters = [p for p in signature.parameters.values() if p.name != "self"]
    kinds = inspect.Parameter
    for index, parameter in enumerate(parameters):
        before = parameters[index - 1].kind if index else None
        if before == kinds.POSITIONAL_ONLY and parameter.kind != kinds.POSITIONAL_ONLY:
            parts.append("/")
        if parameter.kind == kinds.KEYWORD_ONLY and before not in (kinds.KEYWORD_ONLY, kinds.VAR_POSITIONAL):
            parts.append("*")
        parts.append(parameter_text(parameter))
    if parameters and parameters[-1].kind == kinds.POSITIONAL_ONLY:
        parts.append("/")
    returns = signature.return_annotation
    arrow = "" if returns is signature.empty else f" -> {annotation_text(returns)}"
    return f"({', '.join(parts)}){arrow}"


def doc_text(obj: Any) -> str:
    """The docstring as Markdown: sections in bold, examples and indented lists as code."""
    doc = inspect.getdoc(obj) or ""
    lines = doc.splitlines()
    if lines and "(" in lines[0] and lines[0].startswith(f"{getattr(obj, '__qualname__', '?')}("):
        lines = lines[1:]  # the signature that Cython writes there
    result: list[str] = []
    section: list[str] = []

    def close() -> None:
        if section:
            result.extend(["```text", *inspect.cleandoc("\n" + "\n".join(section)).splitlines(), "```", ""])
            section.clear()

    for line in lines:
        stripped = line.strip()
        if line in SECTIONS:
            close()
            result.extend([f"**{stripped.rstrip(':')}**", ""])
        elif line.startswith("    ") or (section and not stripped):
            section.append(line)
        else:
            close()
            result.append("" if stripped == "::" else line[:-1] if line.endswith("::") else line)
    close()
    return "\n".join(result).strip() + "\n"


def public_names(module: ModuleType) -> list[str]:
    """What the module offers: `__all__`, otherwise its own names without underscore."""
    names = getattr(module, "__all__", None)
    if names is None:
        names = [name for name in vars(module) if not name.startswith("_")]
    names = [name for name in names if not name.startswith("__")]
    return [name for name in names if not isinstance(getattr(module, name), ModuleType)]


def describe(module: ModuleType, name: str, level: str) -> list[str]:
    """The entry of one public name."""
    obj = getattr(module, name)
    origin = getattr(obj, "__module__", None) or ""
    if inspect.isclass(obj) and not origin.startswith("scoop"):
        return [f"{level} `{name}`", "", f"That of `{STANDARD}`.", ""]
    if inspect.isclass(obj):
        kind = "exception" if issubclass(obj, BaseException) else "class"
        bases = ", ".join(base.__name__ for base in obj.__bases__ if base is not object)
        title = f"{kind} {name}" + (f"({bases})" if kind == "exception" else signature_text(obj))
    elif callable(obj):
        title = f"{name}{signature_text(obj)}"
    else:
        # Only constants have a value that is the same in every process.
        constant = name.isupper() and isinstance(obj, str)
        return [f"{level} `{name} = {obj!r}`", ""] if constant else []
    lines = [f"{level} `{title}`", "", doc_text(obj)]
    if inspect.isclass(obj) and name in METHODS_OF:
        for method in sorted(n for n in dir(obj) if not n.startswith("_")):
            member = inspect.getattr_static(obj, method)
            if inspect.getdoc(member):
                title = f"{name}.{method}{signature_text(getattr(obj, method))}"
                lines += [f"{level}# `{title}`", "", doc_text(member)]
    return lines


def reference() -> str:
    """The whole page."""
    lines = [INTRODUCTION]
    told: dict[int, str] = {}
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        lines += [f"## {module_name}", "", doc_text(module)]
        for name in public_names(module):
            obj = getattr(module, name)
            known = told.get(id(obj)) if callable(obj) else None
            own_name = getattr(obj, "__name__", name)
            if known is None and own_name != name and getattr(module, own_name, None) is obj:
                known = f"{module_name}.{own_name}"
            if known is not None:
                lines += [f"### `{name}`", "", f"The same as `{known}`.", ""]
                continue
            if callable(obj):
                told[id(obj)] = f"{module_name}.{name}"
            lines += describe(module, name, "###")
    text = re.sub(r"(?<!`)``(?!`)", "`", "\n".join(lines))
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def operations() -> str:
    """docs/operations.md with the table of options as scoop/config.py has it."""
    from scoop.config import environment_table

    text = (DOCS / "operations.md").read_text(encoding="utf-8")
    before, _, rest = text.partition(TABLE_START)
    _, _, after = rest.partition(TABLE_END)
    return before + TABLE_START + environment_table() + TABLE_END + after


def first_sentence(path: Path) -> str:
    """The first sentence of a module's docstring; of a compiled one, that of its .pxd."""
    if path.with_suffix(".pxd").exists():
        path = path.with_suffix(".pxd")
    match = re.match(r'\s*r?"""(.*?)"""', path.read_text(encoding="utf-8"), re.DOTALL)
    paragraph = " ".join(match[1].split("\n\n")[0].replace("``", "`").split()) if match else ""
    return re.split(r"(?<=[a-z)`])\.(?: |$)", paragraph)[0].rstrip(".:")


def tree() -> str:
    """The files of the package, each with the first sentence of its docstring."""
    lines = ["```text"]
    package = DOCS.parent / "scoop"
    for folder in (package, package / "_core", package / "pickling", package / "launch"):
        lines.append(f"{folder.relative_to(DOCS.parent)}/")
        files = [path for path in folder.iterdir() if path.suffix in (".py", ".pyx")]
        files += [path for path in folder.glob("*.pxd") if not path.with_suffix(".pyx").exists()]
        told = ((path.name, first_sentence(path)) for path in sorted(files))
        lines.extend(f"  {name:15} {sentence}" for name, sentence in told if sentence)
    return "\n".join([*lines, "```"]) + "\n"


def architecture() -> str:
    """docs/architecture.md with the files as they are."""
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    before, _, rest = text.partition(FILES_START)
    _, _, after = rest.partition(FILES_END)
    return before + FILES_START + tree() + FILES_END + after


def main() -> int:
    """Write or check the pages; returns the exit status."""
    pages = {
        DOCS / "api.md": reference(),
        DOCS / "operations.md": operations(),
        DOCS / "architecture.md": architecture(),
    }
    if "--check" not in sys.argv[1:]:
        for path, text in pages.items():
            path.write_text(text, encoding="utf-8")
        return 0
    old = [path.name for path, text in pages.items() if not path.exists() or path.read_text("utf-8") != text]
    for name in old:
        print(f"docs/{name} is out of date: run python docs/api_reference.py", file=sys.stderr)
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main())
