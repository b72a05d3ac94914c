"""What users call."""
from scoop import current
def submit(fn, /, *args, **kwargs):
    return current.get().submit(fn, args, kwargs)
shutdown = current.shutdown
