"""Runs a program in this process as ``__main__``, as the interpreter itself would run it."""

from __future__ import annotations

import importlib.machinery
import io
import os
import sys
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_old_main: list[types.ModuleType] = []  # kept alive: code of it is on the stack


def run(path: str, module: str | None, arguments: Sequence[str]) -> int:
    """Run a file, a directory or zip file with a ``__main__.py``, or a module. Blocks until it ends.

    Args:
        path: of the program; not looked at if there is a module.
        module: name of a module or package, or None.
        arguments: for its ``sys.argv``.

    Returns:
        The exit status: 0; 1 when it raised (shown already); 2 when there is no such program.

    Raises:
        SystemExit: the program's own.
        KeyboardInterrupt: the program did not catch Ctrl-C; said already.
    """
    program = types.ModuleType("__main__")
    try:
        code = _find_module(program, module, arguments) if module else _find_path(program, path, arguments)
    except _NoProgram as error:
        print(f"scoop-run: {error}", file=sys.stderr)
        return 2
    except SyntaxError as error:
        return _show(error.with_traceback(None))
    _old_main.append(sys.modules["__main__"])
    sys.modules["__main__"] = program
    try:
        exec(code, program.__dict__)
    except SystemExit as error:
        raise error.with_traceback(None) from None
    except BaseException as error:
        traceback = error.__traceback__
        return _show(error.with_traceback(traceback.tb_next if traceback else None))
    return 0


class _NoProgram(Exception):
    pass


def _show(error: BaseException) -> int:
    """Let the program's own hook, if it has set one, show what ended it."""
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, error.__traceback__
    sys.excepthook(type(error), error, error.__traceback__)
    if isinstance(error, KeyboardInterrupt):
        # The interpreter ends by SIGINT then, as the shell expects; it shall not show the error again.
        sys.excepthook = lambda *_: None
        raise error
    return 1


def _find_path(program: types.ModuleType, path: str, arguments: Sequence[str]) -> types.CodeType:
    sys.argv[:] = [path, *arguments]
    if os.path.isdir(path) or _is_zip(path):
        _set_first_path(path)
        spec = importlib.machinery.PathFinder.find_spec("__main__", [path])
        if spec is None or spec.loader is None:
            raise _NoProgram(f"can't find '__main__' module in {path!r}")
        return _code_of(program, spec, "")
    full = os.path.abspath(path)
    try:
        with io.open_code(full) as file:
            source = file.read()
    except OSError as error:
        raise _NoProgram(f"can't open file {full!r}: [Errno {error.errno}] {error.strerror}") from None
    _set_first_path(os.path.dirname(os.path.realpath(path)))
    program.__dict__.update(
        __file__=full,
        __cached__=None,
        __builtins__=__import__("builtins"),
        __annotations__={},
        __loader__=importlib.machinery.SourceFileLoader("__main__", full),
    )
    code: types.CodeType = compile(source, full, "exec", dont_inherit=True)
    return code


def _find_module(program: types.ModuleType, name: str, arguments: Sequence[str]) -> types.CodeType:
    import importlib.util

    sys.argv[:] = ["-m", *arguments]
    _set_first_path(os.getcwd())
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(name + ".__main__")
            if spec is None:
                raise _NoProgram(f"{name!r} is a package and has no module __main__: it cannot be executed")
    except ModuleNotFoundError as error:
        if error.name is None or not (name + ".").startswith(error.name + "."):
            raise
        spec = None
    except (ValueError, AttributeError) as error:
        raise _NoProgram(f"error while finding module {name!r}: {error}") from None
    if spec is None or spec.loader is None:
        raise _NoProgram(f"no module named {name!r}")
    code = _code_of(program, spec, spec.parent or "")
    sys.argv[0] = code.co_filename
    return code


def _code_of(program: types.ModuleType, spec: importlib.machinery.ModuleSpec, package: str) -> types.CodeType:
    """The code of what was found; sets what the interpreter sets for such a module."""
    code: types.CodeType | None = spec.loader.get_code(spec.name)  # type: ignore[union-attr]
    if code is None:
        raise _NoProgram(f"{spec.name!r} has no code that can be run")
    program.__dict__.update(
        __file__=code.co_filename,
        __cached__=spec.cached,
        __builtins__=__import__("builtins"),
        __annotations__={},
        __loader__=spec.loader,
        __package__=package,
        __spec__=spec,
    )
    return code


def _is_zip(path: str) -> bool:
    if not os.path.isfile(path) or path.endswith((".py", ".pyw")):
        return False
    import zipfile

    return zipfile.is_zipfile(path)


def _set_first_path(directory: str) -> None:
    """Replace the first entry of the search path, which was for our own command."""
    if getattr(sys.flags, "safe_path", False) or sys.flags.isolated:
        return
    sys.path[0] = directory
