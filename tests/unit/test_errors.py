"""The exceptions: what they are caught as, what they say, and that they survive pickling."""

import concurrent.futures
import copy
import pickle
import signal

import pytest

from scoop import errors

CRASH = {"host": "n12", "pid": 4711, "signal": 9, "exitcode": None, "attempts": 3, "reason": "memory"}

SAMPLES = [
    errors.ScoopError("a", 1),
    errors.UsageError("no"),
    errors.NotPicklableError("argument 1", ".lock", "cannot pickle"),
    errors.NotPicklableError("argument 1"),
    errors.ForkedProcess("forked"),
    errors.ResultNotPicklable("task", "m.T", "<T>", ".x", "because"),
    errors.RemoteError("m.Odd", "text", "why"),
    errors.RemoteTraceback("Traceback\n  lines"),
    errors.MissingGlobal("module", "Name.inner"),
    errors.MissingGlobal("module"),
    errors.CheckpointError("/tmp/run.ckpt", "others may write it"),
    errors.ProtocolError("what"),
    errors.TransportError("plain"),
    errors.TransportError(111, "Connection refused"),
    errors.TransportError(2, "No such file", "/run/x"),
    errors.BrokenPool("broken"),
    errors.TaskCrashed("solve", **CRASH),
    errors.WorkerLost("lost"),
    errors.PoolLost("lost"),
    errors.StartupFailed("n1: no route"),
]


@pytest.mark.parametrize("error", SAMPLES, ids=lambda e: f"{type(e).__name__}-{len(e.args)}")
@pytest.mark.parametrize("clone", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy], ids=["dump", "copy"])
def test_survives(error, clone):
    error.extra = ["attribute"]
    back = clone(error)
    assert type(back) is type(error)
    assert back.args == error.args
    assert str(back) == str(error)
    assert back.__dict__ == error.__dict__
    for name in ("errno", "strerror", "filename"):
        assert getattr(back, name, None) == getattr(error, name, None)


def test_every_class_is_public_and_has_a_sample_and_a_docstring():
    classes = {
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, Exception) and value.__module__ == errors.__name__
    }
    assert {cls.__name__ for cls in classes} == set(errors.__all__)
    assert classes == {type(sample) for sample in SAMPLES}
    assert all(cls.__doc__ for cls in classes)


@pytest.mark.parametrize(
    ("cls", "bases"),
    [
        (errors.NotPicklableError, (errors.UsageError, pickle.PicklingError, TypeError)),
        (errors.TransportError, (errors.ScoopError, OSError)),
        (errors.BrokenPool, (concurrent.futures.BrokenExecutor, errors.ScoopError)),
        (errors.TaskCrashed, (errors.BrokenPool,)),
        (errors.ForkedProcess, (errors.UsageError,)),
    ],
)
def test_caught_as(cls, bases):
    for base in bases:
        assert issubclass(cls, base)


def test_task_crashed_says_what_where_how_often_and_what_to_do():
    text = str(errors.TaskCrashed("solve", **CRASH))
    for part in ("solve", "SIGKILL", "n12", "4711", "3 attempts", "memory", "fewer workers"):
        assert part in text
    assert "faulthandler" in str(errors.TaskCrashed("f", "h", 1, signal.SIGSEGV))
    assert "exit status 7" in str(errors.TaskCrashed("f", "h", 1, exitcode=7))
    assert "signal 250" in str(errors.TaskCrashed("f", "h", 1, 250))
    assert "only attempt" in str(errors.TaskCrashed("f"))


def test_remote_traceback_shows_its_text():
    assert str(errors.RemoteTraceback("line one\nline two")).strip() == "line one\nline two"


def test_not_picklable_message():
    error = errors.NotPicklableError("train: argument 1", ".lock", "cannot pickle a lock")
    assert str(error) == "train: argument 1: .lock: cannot pickle a lock"
    assert str(errors.NotPicklableError("argument 1", "", "no")) == "argument 1: no"
