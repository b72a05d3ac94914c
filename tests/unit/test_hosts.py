"""Hosts of the command line, of host files and of bracket lists."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scoop.launch.hosts import (
    COUNT_MAX,
    NAMES_MAX,
    Host,
    HostListError,
    check_name,
    expand,
    merge,
    parse_hostfile,
    parse_words,
)

# --------------------------------------------------------------------------------------------- bracket lists


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("node1", "node1"),
        ("node1,node2", "node1 node2"),
        ("node[1-3,7]", "node1 node2 node3 node7"),
        ("node[7,1-3]", "node7 node1 node2 node3"),
        ("n[001-003]", "n001 n002 n003"),
        ("n[008-011]", "n008 n009 n010 n011"),
        ("n[8-11]", "n8 n9 n10 n11"),
        ("n[001-2]", "n001 n002"),
        ("n[5]", "n5"),
        ("n[0-0]", "n0"),
        ("n[5-5,05]", "n5 n05"),
        ("nodes[006,011]", "nodes006 nodes011"),
        ("r[1-2]n[1-3]", "r1n1 r1n2 r1n3 r2n1 r2n2 r2n3"),
        ("r[1-2]-ib", "r1-ib r2-ib"),
        ("a[1,3]b[2]c,x,y[1-2].example.org", "a1b2c a3b2c x y1.example.org y2.example.org"),
        ("[1-2]", "1 2"),
        ("[1-2][3-4]", "13 14 23 24"),
        ("a,a,a", "a a a"),
        ("n[1-2],n[1-2]", "n1 n2 n1 n2"),
        ("10.0.0.[8-9]", "10.0.0.8 10.0.0.9"),
        ("::1,fe80::1%eth0", "::1 fe80::1%eth0"),
        ("n[999999999999999999]", "n999999999999999999"),
    ],
)
def test_expand(text: str, names: str) -> None:
    assert expand(text, "x") == names.split()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a name is missing"),
        (",", "beside a comma"),
        ("a,", "beside a comma"),
        (",a", "beside a comma"),
        ("a,,b", "beside a comma"),
        ("n[]", "a number is missing"),
        ("n[1,]", "a number is missing"),
        ("n[1,,2]", "a number is missing"),
        ("n[3-1]", "the range 3-1 goes backwards"),
        ("n[010-9]", "the range 010-9 goes backwards"),
        ("n[1-3", "has no ']' behind it"),
        ("n1-3]", "has no '[' before it"),
        ("n]1-3[", "has no '[' before it"),
        ("n[1-[2-3]]", "inside of a bracket"),
        ("n[1-3]]", "has no '[' before it"),
        ("n[1-]", "'1-' is neither a number nor a range"),
        ("n[-1]", "'-1' is neither"),
        ("n[1-2-3]", "'1-2-3' is neither"),
        ("n[a-c]", "'a-c' is neither"),
        ("n[1:3]", "'1:3' is neither"),
        ("n[0x10]", "'0x10' is neither"),
        ("n[\u0661-\u0663]", "is neither a number"),
        ("n[1 - 3]", "is neither"),
        ("n[1000000000000000000]", "is neither"),
        ("n[000x013]", "'000x013' is neither"),
        ("a b", "' ' cannot be in a host name"),
        ("a\n", "'\\n' cannot be in a host name"),
        ("n\u00f6de", "cannot be in a host name"),
        ("(null)", "'(' cannot be in a host name"),
        ("-oProxyCommand=x", "ssh would take it for an option"),
        ("-[1-2]", "ssh would take it for an option"),
        (".", "does not begin with '.'"),
        ("a;b", "';' cannot"),
        ("$(x)", "'$' cannot"),
        ("n[0-100000]", "more than 100000 hosts"),
        ("n[1-999999999999999999]", "more than 100000 hosts"),
        ("n[1-400]m[1-400]", "more than 100000 hosts"),
        ("n[1-60000],m[1-60000]", "more than 100000 hosts"),
        ("a" * 254, "at most 253 characters"),
        ("a" * 250 + "[8-1000]", "at most 253 characters"),
    ],
)
def test_expand_refuses(text: str, said: str) -> None:
    with pytest.raises(HostListError) as caught:
        expand(text, "SLURM_JOB_NODELIST")
    assert str(caught.value).startswith("SLURM_JOB_NODELIST: cannot use '")
    assert said in str(caught.value)


def test_the_largest_list() -> None:
    names = expand("n[1-100000]", "x")
    assert len(names) == NAMES_MAX
    assert (names[0], names[-1]) == ("n1", "n100000")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("n" + "[1-2]" * 64, id="many brackets"),
        pytest.param("n" + "[1]" * 100_000, id="many brackets, one name"),
        pytest.param("n" + "[1-2]" * 16 + "[1]" * 100_000, id="names of endless length"),
        pytest.param("n[" + "1-99999," * 1000 + "1]", id="many ranges"),
        pytest.param("n[" * 100_000, id="open brackets"),
        pytest.param("]" * 100_000, id="closed brackets"),
        pytest.param("," * 1_000_000, id="commas"),
        pytest.param("a," * 500_000 + "a", id="names"),
        pytest.param("n[" + "1" * 1_000_000 + "]", id="a number of a million digits"),
        pytest.param("a" * 1_000_000, id="a name of a million letters"),
        pytest.param(" " * 1_000_000 + "x y", id="blanks"),
        pytest.param("a" + ":" * 1_000_000, id="colons"),
        pytest.param("a*" * 500_000, id="stars"),
        pytest.param("a@" * 500_000, id="users"),
        pytest.param("node1 " + "slots = " * 200_000, id="slots"),
    ],
)
def test_bombs_are_refused(text: str) -> None:
    # Each would take minutes or all memory if it were not refused in time; the deadline of the test tells.
    for parse in (lambda: expand(text, "x"), lambda: parse_words([text]), lambda: parse_hostfile(text, "x")):
        with pytest.raises(HostListError) as caught:
            parse()
        assert len(str(caught.value)) < 400


LETTERS = st.text("abxyz", min_size=1, max_size=4)


@st.composite
def brackets(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A bracket, and what it stands for."""
    parts, numbers = [], []
    for low, more, width in draw(
        st.lists(
            st.tuples(st.integers(0, 1200), st.none() | st.integers(0, 30), st.integers(0, 5)),
            min_size=1,
            max_size=4,
        )
    ):
        first = str(low).zfill(width)
        last = str(low + (more or 0)).zfill(len(first))
        parts.append(first if more is None else f"{first}-{last}")
        numbers += [str(n).zfill(len(first)) for n in range(low, low + (more or 0) + 1)]
    return f"[{','.join(parts)}]", numbers


@st.composite
def bracket_lists(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A list in brackets, and the names that it stands for."""
    texts, names = [], []
    for pieces in draw(
        st.lists(st.lists(st.tuples(LETTERS, brackets()), max_size=2), min_size=1, max_size=4)
    ):
        end = draw(LETTERS)
        texts.append("".join(letters + text for letters, (text, _) in pieces) + end)
        parts = [part for letters, (_, numbers) in pieces for part in ([letters], numbers)]
        names += ["".join(each) for each in itertools.product(*parts, [end])]
    return ",".join(texts), names


@given(bracket_lists())
def test_expand_gives_back_what_was_written(written: tuple[str, list[str]]) -> None:
    text, names = written
    assert expand(text, "x") == names
    assert parse_words([text]) == [Host(name) for name in names]
    assert parse_hostfile(f"# nodes\n{text} 3\n", "x") == [Host(name, 3) for name in names]


@given(st.lists(st.integers(0, 99_999), min_size=1, max_size=50), st.integers(1, 6))
def test_a_list_of_numbers_is_itself(numbers: list[int], width: int) -> None:
    written = [str(n).zfill(width) for n in numbers]
    assert expand(f"n[{','.join(written)}]", "x") == [f"n{each}" for each in written]


# --------------------------------------------------------------------------------------------- command line


@pytest.mark.parametrize(
    ("word", "hosts"),
    [
        ("127.0.0.1", [Host("127.0.0.1")]),
        ("node2", [Host("node2")]),
        ("user@node3:2222", [Host("node3", None, "user", 2222)]),
        ("node[4-6]", [Host("node4"), Host("node5"), Host("node6")]),
        ("node7*4", [Host("node7", 4)]),
        ("me@node[1-2]:22*3", [Host("node1", 3, "me", 22), Host("node2", 3, "me", 22)]),
        ("a,me@b:22,c*2", [Host("a"), Host("b", None, "me", 22), Host("c", 2)]),
        ("alice@corp.example@login_1", [Host("login_1", None, "alice@corp.example")]),
        ("::1", [Host("::1")]),
        ("::1*2", [Host("::1", 2)]),
        ("[::1]", [Host("::1")]),
        ("[::1]:22", [Host("::1", None, None, 22)]),
        ("me@[2001:db8::1]:22*8", [Host("2001:db8::1", 8, "me", 22)]),
        ("me@fe80::1%eth0", [Host("fe80::1%eth0", None, "me")]),
        ("fe80::1:22", [Host("fe80::1:22")]),  # all of it is the address
        ("[::1],[::2]:22,::3", [Host("::1"), Host("::2", None, None, 22), Host("::3")]),
        ("::ffff:10.0.0.1", [Host("::ffff:10.0.0.1")]),
        ("[1-2]a", [Host("1a"), Host("2a")]),
        ("4a", [Host("4a")]),
        ("node2:4", [Host("node2", None, None, 4)]),  # never a count
    ],
)
def test_words(word: str, hosts: list[Host]) -> None:
    assert parse_words([word]) == hosts


def test_several_words_keep_their_order() -> None:
    words = ["127.0.0.1", "node2", "user@node3:2222", "node[4-5]", "node7*4", "[::1]:22", "node2"]
    names = [host.name for host in parse_words(words)]
    assert names == ["127.0.0.1", "node2", "node3", "node4", "node5", "node7", "::1", "node2"]
    assert parse_words([]) == []


def test_target() -> None:
    assert Host("node1").target == "node1"
    assert Host("node1", 3, "me", 22).target == "me@node1"
    assert Host("::1", user="me").target == "me@::1"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("", "a name is missing"),
        ("@node1", "'' is no user name"),
        ("me@", "a host name is missing"),
        ("-o@node1", "'-o' is no user name"),
        ("a b@node1", "'a b' is no user name"),
        ("node1 node2", "' ' cannot be in a host name"),
        ("-v", "ssh would take it for an option"),
        ("node1:", "a port (behind ':') is a whole number from 1 to 65535"),
        ("node1:ssh", "'node1:ssh': a port (behind ':') is a whole number from 1 to 65535, not 'ssh'"),
        ("node1:0", "a port"),
        ("node1:65536", "a port"),
        ("node1:+22", "a port"),
        (":22", "a host name is missing"),
        ("node1*", "the count behind '*'"),
        ("node1*0", "'node1*0': the count behind '*' is a whole number from 1 to 1000000, not '0'"),
        ("node1*-1", "the count behind '*'"),
        ("node1*2*3", "the count behind '*'"),
        (f"node1*{COUNT_MAX + 1}", f"from 1 to {COUNT_MAX}"),
        ("node1*" + "9" * 5000, f"from 1 to {COUNT_MAX}"),
        ("*4", "a host name is missing"),
        ("4", "a number alone is no host"),
        ("[1-3]", "a number alone is no host"),
        ("[::1]x", "only :PORT and *COUNT"),
        ("[::1", "has no ']' behind it"),
        ("[::g]", "'::g' is not an IPv6 address"),
        ("a:b:c", "'a:b:c' is not an IPv6 address"),
        ("n[1-2]::1", "is not an IPv6 address"),
        ("fe80::1%", "not the zone"),
        ("fe80::1%a;b", "not the zone"),
        ("node[1:3]", "has no ']' behind it"),
        ("nodex4:a:", "not an IPv6 address"),
    ],
)
def test_words_are_refused(word: str, said: str) -> None:
    with pytest.raises(HostListError) as caught:
        parse_words(["node0", word])
    assert str(caught.value).startswith("--hosts: cannot use '")
    assert said in str(caught.value)


def test_only_a_star_makes_a_count() -> None:
    assert parse_words(["node7x4"]) == [Host("node7x4")]


def test_all_words_together_have_a_limit() -> None:
    with pytest.raises(HostListError, match="more than 100000 hosts"):
        parse_words(["a[1-60000]", "b[1-60000]"])


def test_a_long_word_is_shortened() -> None:
    with pytest.raises(HostListError) as caught:
        parse_words(["x" * 5000 + "!"], where="here")
    assert str(caught.value).startswith("here: cannot use 'xxx")
    assert len(str(caught.value)) < 250


USERS = st.none() | st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,8}", fullmatch=True)
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
ADDRESSES = st.ip_addresses().map(str)
COUNTS = st.none() | st.integers(1, COUNT_MAX)
HOSTS = st.builds(Host, NAMES | ADDRESSES, COUNTS, USERS, st.none() | st.integers(1, 65535))


def word_of(host: Host) -> str:
    name = f"[{host.name}]" if ":" in host.name else host.name
    user = "" if host.user is None else f"{host.user}@"
    port = "" if host.port is None else f":{host.port}"
    return user + name + port + ("" if host.count is None else f"*{host.count}")


@given(st.lists(HOSTS, max_size=5))
def test_words_give_back_what_was_written(hosts: list[Host]) -> None:
    assert parse_words(map(word_of, hosts)) == hosts
    assert not hosts or parse_words([",".join(map(word_of, hosts))]) == hosts


# -------------------------------------------------------------------------------------------------- merging


def test_merge() -> None:
    hosts = parse_words(["b*2", "a", "b", "me@a", "b*3", "a:22", "c"])
    assert merge(hosts) == [
        Host("b", 6),
        Host("a"),
        Host("a", None, "me"),
        Host("a", None, None, 22),
        Host("c"),
    ]
    assert merge(parse_words(["a", "a"])) == [Host("a", 2)]
    assert merge([]) == []


@given(st.lists(st.builds(Host, st.sampled_from("abc"), COUNTS, st.sampled_from([None, "me"]))))
def test_merge_loses_nothing(hosts: list[Host]) -> None:
    merged = merge(hosts)
    keys = [(host.name, host.user, host.port) for host in hosts]
    assert [(host.name, host.user, host.port) for host in merged] == list(dict.fromkeys(keys))
    counts: Counter[tuple[str, str | None, int | None]] = Counter()
    for key, host in zip(keys, hosts, strict=True):
        counts[key] += host.count or 1
    assert [host.count or 1 for host in merged] == list(counts.values())
    assert merge(merged) == merged


# ----------------------------------------------------------------------------------------------- host files


def test_hostfile() -> None:
    text = """\ufeff# my hosts\r
node1
node2 4\r
   node3\tslots=2   # two
node4 slots=2 max_slots=8
node4 max-slots=8 slots = 1
#node5

me@node[6-7]:2222 3
[::1]:22 2
node8*5
node9,node10 2
node1"""
    assert parse_hostfile(text, "hosts.txt") == [
        Host("node1"),
        Host("node2", 4),
        Host("node3", 2),
        Host("node4", 2),
        Host("node4", 1),
        Host("node6", 3, "me", 2222),
        Host("node7", 3, "me", 2222),
        Host("::1", 2, None, 22),
        Host("node8", 5),
        Host("node9", 2),
        Host("node10", 2),
        Host("node1"),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("node[3-1] 4", "goes backwards"),
        ("node2 four", "'four' is no count; write NAME, NAME COUNT or NAME slots=COUNT"),
        ("node2 node3", "'node3' is no count"),
        ("node2 0", "'node2 0': the count behind a host is a whole number from 1 to 1000000, not '0'"),
        ("node2 1000001", "the count behind a host"),
        ("node2 -1", "'-1' is no count"),
        ("node2 1.5", "'1.5' is no count"),
        ("node2 slots", "'slots' is no count"),
        ("node2 slots=", "the count behind a host is a whole number from 1 to 1000000"),
        ("node2 slots=4=4", "the count behind a host"),
        ("node2 =4", "'=4' is no count"),
        ("node2 4 4", "two counts"),
        ("node2 4 slots=4", "two counts"),
        ("node2*4 4", "two counts"),
        ("node2 max_slots=x", "max_slots is a whole number"),
        ("node2 cores=4", "'cores=4' is no count"),
        ("4 node2", "a number alone is no host"),
        ("node2, node3", "beside a comma"),
        ("node2:99999", "a port"),
        ("-Fevil", "ssh would take it for an option"),
    ],
)
def test_lines_are_refused(line: str, said: str) -> None:
    with pytest.raises(HostListError) as caught:
        parse_hostfile(f"node1\n# comment\n{line}\n", "my/hosts.txt")
    assert str(caught.value).startswith("my/hosts.txt, line 3: cannot use '")
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["", "\n\n", "# node1\n"])
def test_a_file_without_hosts_is_refused(text: str) -> None:
    with pytest.raises(HostListError, match=r"^hosts\.txt names no host; write one per line"):
        parse_hostfile(text, "hosts.txt")


def test_all_lines_together_have_a_limit() -> None:
    with pytest.raises(HostListError, match=r"line 2: .* more than 100000 hosts"):
        parse_hostfile("a[1-60000]\nb[1-60000]\n", "x")


# ------------------------------------------------------------------------------------------ whatever it is

# What lists are made of, so that not every text is refused at its first character.
TEXTS = st.text(st.sampled_from("an019[]-,,:*@.#= \n\t%_()") | st.characters(), max_size=40) | st.text()


def check_hosts(hosts: list[Host]) -> None:
    assert len(hosts) <= NAMES_MAX
    for host in hosts:
        assert check_name(host.name, "x") == host.name
        assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.:%-]*|:[A-Za-z0-9_.:%-]+", host.name)
        assert not host.target.startswith("-")
        assert host.count is None or 1 <= host.count <= COUNT_MAX
        assert host.port is None or 1 <= host.port <= 65535


@given(TEXTS)
@example("a[1-99999],b[1-1]")
def test_any_list_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(HostListError):
        check_hosts([Host(name) for name in expand(text, "x")])


@given(st.lists(TEXTS, max_size=3))
def test_any_words_are_read_or_refused(words: list[str]) -> None:
    with contextlib.suppress(HostListError):
        check_hosts(parse_words(words))


@given(TEXTS)
def test_any_file_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(HostListError):
        check_hosts(parse_hostfile(text, "x"))
