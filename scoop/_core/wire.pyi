from typing import Any, Final

VERSION: Final[int]
ONCE: Final[int]
TABLE: dict[int, tuple[str, str, tuple[tuple[str, str], ...]]]

def encode(kind: int, *fields: int | bytes) -> bytes: ...
def decode(data: bytes | bytearray | memoryview) -> list[tuple[Any, ...]]: ...
