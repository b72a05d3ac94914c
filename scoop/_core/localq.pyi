from typing import final

@final
class LocalQueue:
    hops_max: int
    @property
    def own_count(self) -> int: ...
    @property
    def foreign_count(self) -> int: ...
    @property
    def foreign_us(self) -> int: ...
