from typing import final

@final
class LocalQueue:
    @property
    def own_count(self) -> int: ...
    @property
    def foreign_count(self) -> int: ...
    @property
    def foreign_us(self) -> int: ...
