"""Which host gets how many workers."""

from __future__ import annotations

import pytest

from scoop.launch.hosts import Host, HostListError, parse_words
from scoop.launch.plan import is_local, make

OWN = ["login", "login.cluster"]


def dealt(words, workers=None):
    return [(share.host.name, share.local, share.count) for share in make(parse_words(words), workers, OWN)]


def test_evenly_over_all_hosts():
    words = ["127.0.0.1", "node2", "node3", "node4"]
    assert [count for *_, count in dealt(words, 16)] == [4, 4, 4, 4]
    assert [count for *_, count in dealt(words, 6)] == [2, 2, 1, 1]


def test_this_host_comes_first_wherever_it_is_named():
    assert dealt(["node2", "login"], 4) == [("login", True, 2), ("node2", False, 2)]


def test_counts_are_filled_before_they_are_exceeded():
    assert [count for *_, count in dealt(["login*1", "node2*2", "node3*5"], 6)] == [1, 2, 3]
    assert [count for *_, count in dealt(["login*1", "node2*1"], 4)] == [2, 2]


def test_without_a_number_the_counts_count():
    assert dealt(["login*2", "node2*3", "node4"]) == [
        ("login", True, 2),
        ("node2", False, 3),
        ("node4", False, None),
    ]


def test_a_host_named_twice_has_the_sum():
    assert dealt(["login", "node2*2", "node2*3"])[1] == ("node2", False, 5)


def test_the_origin_alone_on_this_host_if_that_is_not_among_them():
    assert dealt(["node2", "node3"], 5) == [
        ("127.0.0.1", True, 1),
        ("node2", False, 2),
        ("node3", False, 2),
    ]


@pytest.mark.parametrize(("words", "workers"), [(["login", "node2"], 1), (["node2", "node3"], 2)])
def test_fewer_workers_than_hosts_are_refused(words, workers):
    with pytest.raises(HostListError, match=f"{workers} workers for 2 hosts"):
        dealt(words, workers)


def test_which_host_is_this_one():
    assert is_local(Host("localhost"), OWN)
    assert is_local(Host("login"), OWN)
    assert not is_local(Host("node2"), OWN)
    # Whoever names a user or a port wants ssh.
    assert not is_local(Host("login", user="other"), OWN)
    assert not is_local(Host("127.0.0.1", port=2222), OWN)
