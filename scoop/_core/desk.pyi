from typing import final

from scoop._core.store import Store

@final
class Desk(Store): ...
