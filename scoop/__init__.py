"""Scalable COncurrent Operations in Python."""
from scoop.current import configure
from scoop import futures
def __getattr__(name):
    if name == "Executor":
        from scoop.executor import Executor
        return Executor
    raise AttributeError(name)
