"""The compiled core."""

try:
    from scoop._core import wire as _wire  # noqa: F401  (every other one needs it)
except ImportError as _error:
    import os as _os

    _here = _os.path.dirname(_os.path.abspath(__file__))
    if any(name.startswith("wire.") and name.endswith(".so") for name in _os.listdir(_here)):
        raise
    raise ImportError(
        f"scoop is imported from its sources in {_os.path.dirname(_os.path.dirname(_here))}, which are not "
        "built: start the program from another directory (`python -m` and `python -c` look in this one "
        "first) or with scoop-run, or build them in place: python setup.py build_ext --inplace"
    ) from _error
