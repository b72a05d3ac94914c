from typing import final

@final
class Outbox:
    def drain(self) -> list[tuple[int, int, int, int, int, int, int]]: ...
