from collections.abc import Callable, Mapping
from contextvars import Context
from typing import Any, Final

from typing_extensions import disjoint_base

from scoop._core.account import Account
from scoop._core.future import CallFuture, Form
from scoop._core.node import Node

FORMS_MAX: Final = 1024
MENDINGS_MAX: Final = 20
PAYLOAD_BYTES_MAX: Final[int]
QUEUE_BYTES_MAX: Final[int]

@disjoint_base
class Session(Account):
    closed: bool
    copy: bool
    queue_bytes_max: int
    def __init__(
        self, node: Node, context: Context, is_origin: bool, future_class: type[CallFuture], seed: bytes
    ) -> None: ...
    @property
    def seed(self) -> bytes: ...
    def reseed(self, seed: bytes) -> None: ...
    def submit(
        self,
        fn: Callable[..., Any] | Form,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any] | None,
        flags: int = 0,
    ) -> Any: ...  # of the class that the session was made with
    def prepare(self, fn: Callable[..., Any]) -> Form: ...
    def submit_chunk(
        self,
        fn: Callable[..., Any] | Form,
        start: int,
        star: bool,
        items: tuple[Any, ...],
        lineage: bytes,
        flags: int = 0,
    ) -> Any: ...  # of the class that the session was made with
    def estimate_ns(self, fn: Callable[..., Any] | Form) -> int: ...
    def bell(self) -> Any: ...  # the same
    def ring(self, bell: CallFuture) -> None: ...
    def poll_parcels(self) -> None: ...
    def new_lineage(self) -> bytes: ...
    def needs_met(self, f: CallFuture) -> None: ...
    def promote(self, f: CallFuture) -> None: ...
    def mend(self, id: int, why: bytes) -> None: ...
    def close_helpers(self) -> None: ...
