"""Hosts as people write them: words of the command line, host files, and the bracket lists of Slurm and pdsh.

Text in, hosts out: nothing here touches a file, the network or the environment. Whatever the text is, the
only exception is `HostListError`, and time and memory have a bound: `NAMES_MAX` names, and the text's length.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import NoReturn

NAMES_MAX = 100_000
"""Hosts that one list may name. More is a mistake in a range, and would fill the memory."""
COUNT_MAX = 1_000_000
"""Processes that may be asked for on one host, or slots that a job may have."""

_NAME_CHARS_MAX = 253  # of DNS
_SHOWN_CHARS_MAX = 100

# A name goes to ssh, whose configuration may hand it to a shell: nothing that one of them would interpret.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_.-]")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@-]*")
_ZONE = re.compile(r"[A-Za-z0-9_.-]+")
_NUMBER = re.compile(r"[0-9]{1,18}")
_RANGE = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")
_MARK = re.compile(r"[\[\],]")
_BRACKET = re.compile(r"\[([^\[\]]*)\]")


class HostListError(ValueError):
    """A list of hosts cannot be used; the text names the place, what stands there and what is wrong."""


@dataclass(frozen=True)
class Host:
    """One host as somebody named it.

    Attributes:
        name: name or address, an IPv6 address without brackets.
        count: processes to start there; None if that was not said.
        user: whom to log in as; None for whom ssh takes by itself.
        port: of its sshd; None for what ssh takes by itself.
    """

    name: str
    count: int | None = None
    user: str | None = None
    port: int | None = None

    @property
    def target(self) -> str:
        """What ssh is given as its destination; the port needs an option of its own."""
        return f"{self.user}@{self.name}" if self.user else self.name


def merge(hosts: Iterable[Host]) -> list[Host]:
    """Each host once, in the order of first appearance: counts of the same name, user and port are added.

    A host without a count counts 1 if it is named several times, and stays without one otherwise.
    """
    found: dict[tuple[str, str | None, int | None], Host] = {}
    for host in hosts:
        key = (host.name, host.user, host.port)
        before = found.get(key)
        if before is None:
            found[key] = host
        else:
            found[key] = Host(host.name, (before.count or 1) + (host.count or 1), host.user, host.port)
    return list(found.values())


def expand(text: str, where: str) -> list[str]:
    """The host names of a list as Slurm and pdsh write it, in its order.

    Names stand between commas. A bracket holds numbers and ranges; zeros in front of the lower number are
    kept. A name may have several brackets, the last one changes fastest.

    Args:
        text: the list.
        where: it stands; for the error.

    Raises:
        HostListError: a range goes backwards, something is empty, brackets do not match, a character is not
            one of host names, or there are more than `NAMES_MAX` names.

    Example:
        >>> expand("login,r[1-2]n[08-09]-ib", "example")
        ['login', 'r1n08-ib', 'r1n09-ib', 'r2n08-ib', 'r2n09-ib']
    """
    names: list[str] = []
    for item in _split(text, where):
        names += _expand_item(item, text, where)
        _check_length(len(names), text, where)
    return names


def parse_words(words: Iterable[str], where: str = "--hosts") -> list[Host]:
    """The hosts of the command line, in its order; the same host may come several times (see `merge`).

    A word is `[USER@]NAME[:PORT][*COUNT]`, or several of them with commas between. NAME may be a bracket
    list, as in `expand`; user, port and count are then those of each of its hosts. An IPv6 address stands in
    brackets if a port follows, and may do so otherwise. What follows a colon is always a port.

    Args:
        words: as the shell has split them.
        where: they stand; for the error.

    Raises:
        HostListError: see there.

    Example:
        >>> [host.target for host in parse_words(["alice@node[4-5]:2222", "[::1]:22*2"])]
        ['alice@node4', 'alice@node5', '::1']
    """
    hosts: list[Host] = []
    for word in words:
        hosts += _parse_word(word, where)
        _check_length(len(hosts), word, where)
    return hosts


def parse_hostfile(text: str, name: str) -> list[Host]:
    """The hosts of a host file, in its order; the same host may come several times (see `merge`).

    A line is a word as in `parse_words`, and behind it, if wanted, the processes on each of its hosts: a
    number alone, or `slots=N` as Open MPI writes it (whose `max_slots=N` is read over). What follows `#` is a
    comment. `NAME:4`, which MPICH takes for four processes, is port 4 here.

    Args:
        text: of the file.
        name: of the file; for the error.

    Raises:
        HostListError: see there; it names the line. Also if no line names a host.
    """
    hosts: list[Host] = []
    # Not splitlines(), which knows more line ends than the editor that will be asked for the line's number.
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        where = f"{name}, line {number}"
        found = _parse_word(words[0], where)
        count = _count_of_line(words[1:], line, where)
        if count is not None:
            if any(host.count is not None for host in found):
                refuse(line.strip(), "there are two counts", where)
            found = [Host(host.name, count, host.user, host.port) for host in found]
        hosts += found
        _check_length(len(hosts), words[0], where)
    if not hosts:
        raise HostListError(f"{name} names no host; write one per line: NAME, NAME COUNT or NAME slots=COUNT")
    return hosts


def check_name(name: str, where: str) -> str:
    """`name` itself if it may be that of a host: a name, an alias of ssh, an IPv4 or IPv6 address."""
    if ":" in name:
        return _check_address(name, name, where)
    if len(name) > _NAME_CHARS_MAX:
        refuse(name, f"a host name has at most {_NAME_CHARS_MAX} characters", where)
    if not _NAME.fullmatch(name):
        strange = _NOT_IN_A_NAME.search(name)
        if not name:
            refuse(name, "a host name is missing", where)
        if name[0] == "-":
            refuse(name, "a host name does not begin with '-', ssh would take it for an option", where)
        if strange is None:
            refuse(name, f"a host name does not begin with {name[0]!r}", where)
        refuse(name, f"{strange.group()!r} cannot be in a host name; write letters, digits, '.-_'", where)
    return name


def number(
    text: str, what: str, where: str, *, least: int = 1, most: int = COUNT_MAX, within: str = ""
) -> int:
    """The whole number that `text` is; `what` names it in the error, which shows what it is `within`."""
    value = int(text) if _NUMBER.fullmatch(text) else -1
    if not least <= value <= most:
        refuse(within or text, f"{what} is a whole number from {least} to {most}, not {shown(text)}", where)
    return value


def refuse(text: str, what: str, where: str) -> NoReturn:
    """Raise the error for `text`, which stands `where`: `what` is wrong with it."""
    raise HostListError(f"{where}: cannot use {shown(text)}: {what}")


def shown(text: str) -> str:
    """`text` for an error: quoted, on one line, not too long."""
    return repr(text if len(text) <= _SHOWN_CHARS_MAX else text[: _SHOWN_CHARS_MAX - 3] + "...")


# -------------------------------------------------------------------------------------------- bracket lists


def _split(text: str, where: str) -> list[str]:
    """What stands between the commas outside of brackets; the brackets match, none is inside another."""
    items, start, inside = [], 0, False
    for mark in _MARK.finditer(text):
        sign = mark.group()
        if sign == "," and not inside:
            items.append(text[start : mark.start()])
            start = mark.end()
        elif sign == "[":
            if inside:
                refuse(text, "a '[' stands inside of a bracket", where)
            inside = True
        elif sign == "]":
            if not inside:
                refuse(text, "a ']' has no '[' before it", where)
            inside = False
    if inside:
        refuse(text, "a '[' has no ']' behind it", where)
    items.append(text[start:])
    if "" in items:
        refuse(text, "a name is missing" if len(items) == 1 else "nothing stands beside a comma", where)
    return items


def _expand_item(item: str, text: str, where: str) -> list[str]:
    choices: list[list[str]] = []
    count = 1
    for index, piece in enumerate(_BRACKET.split(item)):  # outside, inside, outside, ..., outside
        choices.append(_numbers(piece, text, where) if index % 2 else [piece])
        count *= len(choices[-1])
        _check_length(count, text, where)
    # Before names are made: a thousand brackets with one number each give few names, but long ones.
    if sum(max(map(len, choice)) for choice in choices) > _NAME_CHARS_MAX:
        refuse(text, f"a host name has at most {_NAME_CHARS_MAX} characters", where)
    names = ["".join(parts) for parts in itertools.product(*choices)]
    check_name(names[0], where)  # the others differ in digits only
    return names


def _numbers(inside: str, text: str, where: str) -> list[str]:
    """The numbers that a bracket holds, as they are written."""
    numbers: list[str] = []
    for part in inside.split(","):
        match = _RANGE.fullmatch(part)
        if match is None:
            if not part:
                refuse(text, "a number is missing in a bracket", where)
            refuse(text, f"{shown(part)} is neither a number nor a range like 1-9", where)
        low, high = match[1], match[2] or match[1]
        first, last = int(low), int(high)
        if first > last:
            refuse(text, f"the range {part} goes backwards, write the smaller number first", where)
        _check_length(len(numbers) + last - first + 1, text, where)
        numbers += [f"{value:0{len(low)}}" for value in range(first, last + 1)]
    return numbers


def _check_length(count: int, text: str, where: str) -> None:
    if count > NAMES_MAX:
        refuse(text, f"that makes more than {NAMES_MAX} hosts, look for a number that is too large", where)


# ------------------------------------------------------------------------------------------ words and lines


def _parse_word(word: str, where: str) -> list[Host]:
    hosts: list[Host] = []
    for item in _split(word, where):
        body, star, digits = item.partition("*")
        count = number(digits, "the count behind '*'", where, within=item) if star else None
        user, at, place = body.rpartition("@")
        if at and not _USER.fullmatch(user):
            refuse(item, f"{shown(user)} is no user name", where)
        names, port_digits = _parse_place(place, item, where)
        port = None
        if port_digits is not None:
            port = number(port_digits, "a port (behind ':')", where, most=65535, within=item)
        hosts += [Host(name, count, user or None, port) for name in names]
        _check_length(len(hosts), word, where)
    return hosts


def _parse_place(place: str, item: str, where: str) -> tuple[list[str], str | None]:
    """Names and port of `NAME[:PORT]`."""
    head, _, rest = place.partition("]")
    if head.startswith("[") and ":" in head:
        if rest and not rest.startswith(":"):
            refuse(item, "behind an address in brackets only :PORT and *COUNT can stand", where)
        return [_check_address(head[1:], item, where)], rest[1:] if rest else None
    if place.count(":") > 1:
        return [_check_address(place, item, where)], None
    name, colon, port = place.partition(":")
    if not name:
        refuse(item, "a host name is missing", where)
    names = expand(name, where)
    if names[0].isdigit():  # "node1 4" on the command line, "4 node1" in a host file
        refuse(item, "a number alone is no host; the count stands behind the host that it is for", where)
    return names, port if colon else None


def _check_address(address: str, item: str, where: str) -> str:
    """`address` itself if it is an IPv6 address, possibly with a zone as in fe80::1%eth0."""
    from ipaddress import AddressValueError, IPv6Address

    plain, percent, zone = address.partition("%")
    try:
        IPv6Address(plain)
    except AddressValueError:
        refuse(item, f"{shown(address)} is not an IPv6 address (a name has one ':' at most)", where)
    if percent and not _ZONE.fullmatch(zone):
        refuse(item, f"{shown(zone)} is not the zone of an IPv6 address", where)
    return address


def _count_of_line(words: list[str], line: str, where: str) -> int | None:
    """What the words behind the host say: processes on each of its hosts."""
    count: int | None = None
    # Open MPI reads "slots = 4" too.
    for word in " ".join(words).replace(" =", "=").replace("= ", "=").split():
        key, equals, value = word.partition("=")
        if equals and key in ("max_slots", "max-slots"):
            number(value, key, where, within=line.strip())  # how far Open MPI may go; here the count is meant
        elif not (key == "slots" and equals) and not _NUMBER.fullmatch(word):
            what = f"{shown(word)} is no count; write NAME, NAME COUNT or NAME slots=COUNT"
            refuse(line.strip(), what, where)
        elif count is not None:
            refuse(line.strip(), "there are two counts", where)
        else:
            count = number(value if equals else word, "the count behind a host", where, within=line.strip())
    return count
