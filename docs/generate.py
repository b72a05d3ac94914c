"""Writes docs/wire.md and docs/states.md from the sources of scoop/_core.

python docs/generate.py            # write both
python docs/generate.py --check    # say what is out of date, and exit with status 1 if anything is

It reads the sources as text, so it needs nothing that is compiled or installed.
"""

from __future__ import annotations

import ast
import difflib
import re
import sys
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).resolve().parent
CORE = DOCS.parent / "scoop" / "_core"
MADE = "Made by `docs/generate.py` from the sources of `scoop/_core`; edit those.\n"

# What a message is for. A new row of the table in wire.pyx needs one here.
PURPOSE = {
    "HELLO": "The first record of every process: its incarnation, which is also its name on the "
    "socket. A broker ignores whoever has not sent it. Sent again when the broker's empty frame says that a "
    "connection is a new one.",
    "WELCOME": "The broker's answer to HELLO, followed by the constants that are shared so far. `namesake`, "
    "unless 0, goes behind the name, which another one has already. A `successor` is asked for work again. "
    "From a broker to another one, `slot` is 1 if the origin is at the sender, else 0.",
    "TASK": "A call on its way to whoever has room, or home again. `form` is the function as it "
    "travels; it is there the first time an owner sends it, later ones carry its number "
    "only. `lineage` has 16 bytes.",
    "RESULT": "What came of a task, for its owner. The broker passes it on by `owner` without looking "
    "into it.",
    "REQUEST": "This process has room for so much work; `idle` is 1 if it has nothing at all to do. It "
    "replaces the request before.",
    "SURPLUS": "So many tasks could be given away here. Sent when it becomes or stops being 0, and "
    "when it doubles.",
    "WANT": "Give away so much work, for so many idle processes. It replaces the wish before; 0 "
    "withdraws it.",
    "CANCEL": "Give this task up if it has not started: because nobody wants it any more, or because "
    "its owner wants to run it.",
    "ANSWER": "The answer to CANCEL, from the holder, or from the broker where the task is in its "
    "queue or unknown.",
    "NEED": "The holder of a task has no form for its function's number.",
    "FORM": "The answer to NEED. Empty, from a broker: the owner is dead, nobody has it any more.",
    "CLAIM": "`asker` is about to begin with a task that is to run at most once. A broker denies it for an "
    "owner that is dead.",
    "GRANT": "Whether it may. The first asker may, for the attempt that its owner knows.",
    "LOST": "The process that held this attempt is dead. `detail` says how, and is empty unless the "
    "task is to blame.",
    "CONST": "A shared constant, or, under a name that no program can give, the lineage of a call that no "
    "process survives. The broker keeps it for processes that come later.",
    "STOP": "No more work: finish and go. The origin says it to its broker when the job is over, and that "
    "passes it on.",
    "ASK": "The broker's processes could take so much more work than there is here; `idle` of them have "
    "nothing at all to do. It is answered by tasks or by REFUSE, and replaces the one before.",
    "REFUSE": "There is nothing to give, or no longer. `referral` is the number of the broker that seems "
    "to have most, 0 if none is known: it had `tasks`, `age_us` ago. The asker stays noted for a moment: "
    "what comes up meanwhile is for it.",
    "RESET": "The connection is another one than before, and what was in that is lost: each side says what "
    "it holds of the other's tasks, and sends the last results and constants once more. `step` 0 asks, "
    "1 answers, 2 confirms.",
    "LOAD": "Beside a task that is given away: so many the giver has left beyond its own need.",
    "HINT": "On the meta socket: how much there is beyond what is needed here. It says all there is to say, "
    "so one that is lost or late does no harm. Sent when it becomes or stops being 0, when it doubles or "
    "halves, and now and then; never more often than the subscribers can bear.",
    "HOLD": "A task that the broker `giver` had been given is here now: its owner's broker keeps track of "
    "where each one is, and passes the notice on to the giver, which answers for the task until then. With "
    "`giver` 0, after a broker was started again: what its processes, and other brokers, hold.",
    "LEAVE": "It takes no more tasks: those that have not started come back as ANSWER. With `done` it holds "
    "nothing any more; the broker answers with STOP when it has read all that was said before.",
    "GUEST": "Take connections with this public key, as `node` only: a worker that joins from elsewhere, or "
    "another broker. From those alone who hold the broker's join file.",
    "GONE": "A guest is dead: as LOST, from whoever has started it. `owner` and `id` name the task that it "
    "ran, 0 if none.",
}
TYPES = {"u": "unsigned integer", "b": "byte string"}
WIRE_ENUMS = (
    ("T_", "Flags of a task", "Bits of `flags`."),
    ("O_", "Outcomes", "`outcome` of a result."),
    ("V_", "Verdicts", "`verdict` of an answer."),
    ("CANCEL_", "Modes", "`mode` of CANCEL and ANSWER."),
)


class Constant(NamedTuple):
    """One line of an enum: `NAME = 3   # note`."""

    name: str
    value: int
    note: str


def constants(module: str, prefix: str) -> list[Constant]:
    """The enum constants of a `.pxd` whose names begin with `prefix`, in their order."""
    text = (CORE / f"{module}.pxd").read_text()
    found = re.findall(rf"^ +({prefix}[A-Z_0-9]*) = (\d+)(?: +# (.*))?$", text, re.MULTILINE)
    return [Constant(name, int(value), note) for name, value, note in found]


def message_table() -> dict[int, tuple[str, str, tuple[tuple[str, str], ...]]]:
    """TABLE of wire.pyx: kind -> (name, who to whom, fields)."""
    numbers = {constant.name: constant.value for constant in constants("wire", "K_")}
    source = (CORE / "wire.pyx").read_text()
    literal = re.search(r"^TABLE = (\{.*?^\})", source, re.MULTILINE | re.DOTALL)
    if literal is None:
        raise SystemExit("wire.pyx has no TABLE")
    text = re.sub(r"\bK_[A-Z]+\b", lambda match: str(numbers[match.group()]), literal.group(1))
    table: dict[int, tuple[str, str, tuple[tuple[str, str], ...]]] = ast.literal_eval(text)
    return table


def rows(head: tuple[str, ...], lines: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    text = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    text += ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    return "\n".join(text) + "\n"


def wire_page() -> str:
    """docs/wire.md."""
    table = message_table()
    version = constants("wire", "PROTOCOL_VERSION")[0].value
    parts = [
        "# Messages\n",
        MADE,
        f"Protocol version {version}. A message is one frame that holds one or more records; a record is a\n"
        "msgpack array whose first item is its kind, followed by the fields of the table, all of them, in\n"
        "this order. Numbers are written in their shortest form and byte strings as msgpack `bin`, so any\n"
        "msgpack library can read a capture. The reader refuses everything else, and with it the rest of\n"
        "the frame.\n",
        "Times are in microseconds (`_us`), nanoseconds (`_ns`) or milliseconds (`_ms`). `owner` and\n"
        "`asker` are incarnations, `id` is the owner's number for the call, `attempt` counts from 0.\n",
        rows(
            ("kind", "name", "from, to", "fields"),
            [
                (str(kind), f"[{name}](#{name.lower()})", who, " ".join(f"`{field}`" for field, _ in fields))
                for kind, (name, who, fields) in sorted(table.items())
            ],
        ),
    ]
    differ = PURPOSE.keys() ^ {name for name, _, _ in table.values()}
    if differ:
        raise SystemExit(f"docs/generate.py: PURPOSE and the TABLE of wire.pyx differ in {sorted(differ)}")
    for kind, (name, who, fields) in sorted(table.items()):
        parts.append(f"## {name}\n")
        parts.append(f"Kind {kind}, {who}. {PURPOSE[name]}\n")
        parts.append(rows(("field", "type"), [(f"`{field}`", TYPES[type_]) for field, type_ in fields]))
    for prefix, title, sentence in WIRE_ENUMS:
        parts.append(f"## {title}\n")
        parts.append(f"{sentence}\n")
        parts.append(enum_rows(constants("wire", prefix), len(prefix)))
    return "\n".join(parts)


def enum_rows(found: list[Constant], skip: int) -> str:
    """A table of constants, without the prefix that they share."""
    return rows(("value", "name", "meaning"), [(str(c.value), f"`{c.name[skip:]}`", c.note) for c in found])


def places(pattern: str) -> dict[str, list[str]]:
    """Where a pattern with one group occurs in code: what the group matched -> functions, in order."""
    found: dict[str, list[str]] = {}
    for path in sorted(CORE.glob("*.pyx")):
        owner = function = ""
        for line in path.read_text().splitlines():
            head = re.match(r"( *)(?:cdef class|class|cdef|cpdef|def)\b.*?(\w+)(?:\(|:)", line)
            if head and not line.rstrip().endswith(")"):
                kind_is_class = re.match(r" *(?:cdef )?class\b", line)
                if kind_is_class:
                    owner = head.group(2)
                elif head.group(1) == "" or len(head.group(1)) == 4:
                    function = head.group(2)
                    owner = owner if head.group(1) else ""
            for name in re.findall(pattern, line.split("#")[0]):
                where = f"`{owner or path.stem}.{function}`"
                if where not in found.setdefault(name, []):
                    found[name].append(where)
    return found


def listed_rows(module: str, prefix: str, column: str, pattern: str) -> str:
    """A table of constants, with the places where each is used in the way that `pattern` says."""
    where = places(pattern)
    return rows(
        ("name", "meaning", column),
        [
            (f"`{c.name[len(prefix) :]}`", c.note, ", ".join(where.get(c.name, ["-"])))
            for c in constants(module, prefix)
        ],
    )


def states_page() -> str:
    """docs/states.md."""
    parts = [
        "# States\n",
        MADE,
        "## A call\n",
        "`call_t.state` in `call.pxd`. Everything from `DONE` on is final.\n",
        call_states(),
        "## Marks of a call\n",
        "Bits of `call_t.marks`: what this process has to do for the call besides keeping its state.\n",
        listed_rows("call", "M_", "set by", r"marks \|= (M_[A-Z]+)"),
        "## Rulings\n",
        "What the ledger says an event means for a call that is elsewhere.\n",
        listed_rows("ledger", "R_", "given by", r"\b(?:return|else)\b.*?\b(R_[A-Z]+)"),
        "## Actions\n",
        "What the balance tells the broker's driver to do; `node` and `a` to `d` are fields of the action.\n",
        listed_rows("outbox", "A_", "decided by", r"out\.put\((A_[A-Z_]+)"),
        "## Why a wait ended\n",
        "Bits that `Node.block` returns.\n",
        listed_rows("node", "W_", "found by", r"reason \|?= (W_[A-Z]+)"),
    ]
    return "\n".join(parts)


def call_states() -> str:
    """The table of states of a call; an assignment may name two of them."""
    first = places(r"state(?: =|,) .*?\b(S_[A-Z]+)")
    second = places(r"state = S_[A-Z]+ if .*? else (S_[A-Z]+)")
    merged = {
        name: list(dict.fromkeys(first.get(name, []) + second.get(name, []))) for name in {*first, *second}
    }
    return rows(
        ("name", "meaning", "set by"),
        [(f"`{c.name[2:]}`", c.note, ", ".join(merged.get(c.name, ["-"]))) for c in constants("call", "S_")],
    )


def main(arguments: list[str]) -> int:
    """Write the pages, or with --check say what would change."""
    status = 0
    for name, text in (("wire.md", wire_page()), ("states.md", states_page())):
        path = DOCS / name
        before = path.read_text() if path.exists() else ""
        if before == text:
            continue
        if "--check" in arguments:
            status = 1
            lines = difflib.unified_diff(before.splitlines(), text.splitlines(), n=0, lineterm="")
            print(f"docs/{name} is out of date: python docs/generate.py", *list(lines)[:20], sep="\n")
        else:
            path.write_text(text)
            print(f"docs/{name} written")
    return status


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
