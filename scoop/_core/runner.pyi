from asyncio import AbstractEventLoop
from collections.abc import Callable
from contextvars import Context
from typing import Any, NoReturn, final

from typing_extensions import disjoint_base

from scoop._core.future import Runtime
from scoop._core.node import Node
from scoop._core.session import Session

@final
class Strand:
    def __new__(cls, main: bool) -> Strand: ...

@disjoint_base
class Runner(Runtime):
    leave_fork: Callable[[BaseException | None], NoReturn] | None
    interrupted: bool
    def __init__(self, node: Node, session: Session, context: Context, is_origin: bool) -> None: ...
    def show_on(self, page: Any) -> None: ...

def asyncio_loop(loop: AbstractEventLoop | None) -> AbstractEventLoop | None: ...
