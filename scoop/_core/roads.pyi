from collections.abc import Callable

from typing_extensions import disjoint_base

from scoop._core.broker import Broker
from scoop._core.curve import Gate, Keys
from scoop._core.net import Context, Socket

@disjoint_base
class Roads(Broker):
    def __new__(cls, socket: Socket | None = None, number: int = 0) -> Roads: ...
    @property
    def number(self) -> int: ...
    @property
    def gate(self) -> Gate: ...
    @property
    def keys(self) -> Keys: ...
    @property
    def strangers(self) -> int: ...
    @property
    def dropped_frames(self) -> int: ...
    def open(
        self,
        context: Context,
        keys: Keys,
        address: str,
        meta: str,
        unknown: Callable[[str], object] | None = None,
        announce: bool = False,
    ) -> tuple[str, str]: ...
    def introduce(self, address: str, meta: str) -> None: ...
    watching: bool
    def ended_links(self, lease_s: float) -> list[tuple[int, int, bool, bool]]: ...
    def close(self) -> None: ...
