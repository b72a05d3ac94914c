"""A queue for load-balancing among other brokers, event by event; the machine checks itself after each."""

from __future__ import annotations

import pytest

HOME, EAST, WEST, NORTH = 1, 2, 3, 4  # brokers
HOPS_MAX = 16
LONG = 10**9


def at(broker, node):
    """The incarnation of a node."""
    return broker << 44 | node


ORIGIN = at(HOME, 1)


class World:
    """The broker HOME with an origin and two workers, and the brokers EAST and WEST."""

    def __init__(self, machines):
        self.machines = machines
        self.balance = machines.BalanceHarness(HOME)
        self.origin = self.balance.hello(at(HOME, 1), source=True)
        self.workers = [self.balance.hello(at(HOME, i)) for i in (2, 3)]
        self.east = self.balance.peer(EAST)
        self.west = self.balance.peer(WEST)

    def __getattr__(self, name):
        event = getattr(self.balance, name)

        def checked(*args, **kwargs):
            answer = event(*args, **kwargs)
            self.balance.validate()
            return answer

        return checked

    def submit(self, *ids, node=None, owner=ORIGIN, **fields):
        """Tasks of the origin, unless said otherwise, whose slot is their number."""
        node = self.origin if node is None else node
        for id in ids:
            assert self.task(node, owner, id, slot=id, **fields) == 0

    def did(self):
        self.match()
        return self.drain()

    def sent(self):
        """Match, and return the slots that were sent to each node."""
        found = {}
        for name, node, slot, *_ in self.did():
            if name == "send":
                found.setdefault(node, []).append(slot)
        return found


@pytest.fixture
def world(machines):
    made = World(machines)
    yield made
    made.balance.validate()


# ------------------------------------------------------------------------------------------------- peers


def test_a_peer_has_a_slot_and_keeps_it(world):
    assert world.slot_of(EAST) == world.east
    assert world.peer(EAST) == world.east
    assert len({world.origin, *world.workers, world.east, world.west}) == 5


def test_a_peer_that_comes_back_is_alive_again(world):
    world.lost(world.east)
    assert not world.node(world.east)["alive"]
    assert world.peer(EAST) == world.east
    assert world.node(world.east)["alive"]


def test_what_is_for_a_node_goes_to_it_or_to_its_broker(world):
    assert world.way_to(at(HOME, 2)) == world.workers[0]
    assert world.way_to(at(EAST, 2)) == world.east
    assert world.way_to(at(WEST, 77)) == world.west
    assert world.way_to(at(HOME, 77)) == -1
    assert world.way_to(at(9, 1)) == -1


def test_nothing_goes_to_the_dead(world):
    world.lost(world.east)
    world.lost(world.workers[0])
    assert world.way_to(at(EAST, 2)) == -1
    assert world.way_to(at(HOME, 2)) == -1


def test_without_a_number_of_its_own_a_broker_has_no_peers_to_route_by(machines):
    balance = machines.BalanceHarness()
    slot = balance.hello(at(EAST, 5))
    assert balance.way_to(at(EAST, 5)) == slot


# --------------------------------------------------------------------------------- credit and giving


def test_a_peer_gets_tasks_up_to_its_credit(world):
    world.ask(world.east, 25)
    world.submit(1, 2, 3, 4, est_us=10)
    assert world.sent() == {world.east: [1, 2, 3]}
    assert world.statistics()["moved"] == 3
    assert world.node(world.east)["given"] == 3


def test_a_peer_that_is_gone_gets_no_credit(world):
    world.lost(world.east)
    world.ask(world.east, LONG)
    world.submit(1)
    assert world.sent() == {}


def test_our_own_come_first(world):
    world.ask(world.east, LONG)
    world.request(world.workers[0], 10)
    world.submit(1, 2, est_us=10)
    assert world.sent() == {world.workers[0]: [1], world.east: [2]}


def test_a_new_ask_replaces_the_old_one(world):
    world.ask(world.east, LONG)
    world.ask(world.east, 10)
    world.submit(1, 2, est_us=10)
    assert world.sent() == {world.east: [1]}


def test_credit_can_be_taken_back(world):
    world.ask(world.east, LONG)
    world.ask(world.east, 0)
    world.ask(world.west, 0)
    world.submit(1)
    assert world.sent() == {}


def test_a_task_of_unknown_length_uses_up_some_credit(world):
    world.ask(world.east, 2)
    world.submit(1, 2, 3)
    assert world.sent() == {world.east: [1, 2]}


def test_what_peers_ask_for_is_wanted_from_nodes_that_have_it(world):
    world.ask(world.east, 500, idle=3)
    world.surplus(world.workers[0], 8, 800)
    assert ("want", world.workers[0], 0, 500, 3, 0, 0) in world.did()


def test_a_hungry_node_is_worth_a_task_however_long(world):
    # Two workers with a little room each, and tasks that are far longer: both are asked for.
    world.submit(1, est_us=10000)
    world.request(world.workers[0], 1000)
    assert world.sent() == {world.workers[0]: [1]}
    for node in world.workers:
        world.request(node, 1000)
    assert world.lack() == (20000, 0)
    wants = {node: a for name, node, _, a, *_ in world.did() if name == "want"}
    assert wants[world.origin] == 20000


def test_lack_and_spare_count_only_nodes_here(world):
    world.ask(world.east, LONG, idle=64)
    world.request(world.workers[0], 1000, idle=True)
    world.surplus(world.workers[1], 3, 300)
    assert world.lack() == (1000, 1)
    assert world.spare() == (3, 300)


def test_a_task_never_goes_back_to_the_peer_that_gave_it(world):
    world.submit(1, node=world.east, owner=at(WEST, 5))
    world.ask(world.east, LONG)
    assert world.sent() == {}
    assert world.statistics()["queued"] == 1


def test_a_task_never_goes_on_to_its_own_broker(world):
    world.submit(1, node=world.west, owner=at(EAST, 5))
    world.ask(world.east, LONG)
    assert world.sent() == {}


def test_a_task_goes_on_to_a_third(world):
    world.submit(1, node=world.east, owner=at(EAST, 5))
    world.ask(world.west, LONG)
    assert world.sent() == {world.west: [1]}
    assert world.statistics()["known"] == 1
    world.hold(world.east, at(EAST, 5), 1, hops=1)
    assert world.statistics()["known"] == 1, "that is how it came here"
    world.hold(world.east, at(EAST, 5), 1, attempt=1, hops=2)
    assert world.statistics()["known"] == 1, "that is another attempt"
    world.hold(world.east, at(EAST, 5), 1, hops=2)
    assert world.statistics()["known"] == 0, "its own broker keeps track of it"
    assert world.node(world.west)["given"] == 0


def test_a_task_that_is_lost_on_its_way_on_is_reported_by_its_giver(world):
    # Its own broker takes it for ours until the third says that it has it, which a dead one never does.
    world.submit(1, node=world.east, owner=at(EAST, 5), attempt=2)
    world.ask(world.west, LONG)
    assert world.sent() == {world.west: [1]}
    world.lost(world.west)
    assert world.drain() == [("lost", world.east, at(EAST, 5), 1, 2, 1, 0)]
    assert world.statistics()["known"] == 0


@pytest.mark.parametrize("hops", range(HOPS_MAX + 1))
def test_a_task_that_has_moved_often_stays(world, hops):
    world.submit(1, node=world.east, owner=at(EAST, 5), hops=hops)
    world.ask(world.west, LONG)
    assert world.sent() == ({world.west: [1]} if hops < HOPS_MAX else {})


def test_a_task_that_no_peer_may_have_does_not_stop_the_next(world):
    world.submit(1, hops=HOPS_MAX)
    world.submit(2)
    world.ask(world.east, LONG)
    assert world.sent() == {world.east: [2]}
    world.request(world.workers[0], LONG)
    assert world.sent() == {world.workers[0]: [1]}


def test_a_task_that_crashed_a_worker_goes_only_where_a_node_has_nothing_to_do(world):
    retried = world.machines.RETRIED
    world.submit(1, flags=retried)
    world.ask(world.east, LONG)
    assert world.sent() == {}
    world.ask(world.east, LONG, idle=1)
    assert world.sent() == {world.east: [1]}


def test_behind_many_of_them_none_is_looked_for(world):
    world.submit(*range(1, 101), hops=HOPS_MAX)
    world.submit(200)
    world.ask(world.east, LONG)
    assert world.sent() == {}
    assert world.statistics()["queued"] == 101


# --------------------------------------------------------------------------------------- where tasks are


def test_a_task_that_moves_on_is_reported_to_its_own_broker(world):
    world.submit(7, node=world.west, owner=at(EAST, 5))
    told = world.drain()
    assert told == [("hold", world.east, WEST, at(EAST, 5), 7, 0, 1)], "with its giver, attempt and hops"


def test_a_task_from_its_own_broker_or_of_our_own_node_is_not_reported(world):
    world.submit(7, node=world.east, owner=at(EAST, 5))
    world.submit(8, node=world.east)
    world.submit(9)
    assert world.drain() == []


def held_by_east(world, id=1):
    world.ask(world.east, 1)
    world.submit(id)
    assert world.sent() == {world.east: [id]}


def test_who_has_it_now_is_noted(world):
    held_by_east(world)
    world.hold(world.west, at(HOME, 1), 1, giver=EAST)
    assert world.drain() == [("hold", world.east, 0, at(HOME, 1), 1, 0, 2)], (
        "it need not answer for it any more"
    )
    assert (world.node(world.east)["given"], world.node(world.west)["given"]) == (0, 1)
    world.lost(world.east)
    assert world.drain() == [], "it is not there any more"
    world.lost(world.west)
    assert [action[:2] for action in world.drain()] == [("lost", world.origin)]


def test_notices_that_overtake_each_other(world):
    # East gave it to west, and west to the third: that one's notice is here first.
    third = world.peer(NORTH)
    held_by_east(world)
    world.hold(third, at(HOME, 1), 1, hops=3, giver=WEST)
    world.hold(world.west, at(HOME, 1), 1, hops=2, giver=EAST)
    assert [action[:2] for action in world.drain()] == [("hold", world.west), ("hold", world.east)]
    assert world.node(third)["given"] == 1


def test_a_notice_about_an_earlier_attempt_changes_nothing(world):
    held_by_east(world)
    world.lost(world.east)
    world.peer(EAST)
    world.ask(world.east, 1)
    world.submit(1, attempt=1)
    world.match()
    world.drain()
    world.hold(world.west, at(HOME, 1), 1, attempt=0, hops=2)
    assert world.node(world.east)["given"] == 1


def test_a_notice_about_a_dead_owners_task_is_answered_by_a_cancel(world):
    # The peer that had it was lost, and then its owner: nobody here knows any more that it went on before.
    owner = at(HOME, 2)
    world.submit(1, node=world.workers[0], owner=owner)
    world.ask(world.east, 1)
    assert world.sent() == {world.east: [1]}
    world.lost(world.east)
    world.lost(world.workers[0])
    world.drain()
    world.hold(world.west, owner, 1, giver=EAST)
    assert world.drain() == [("cancel", world.west, 0, owner, 1, 0, world.machines.ORPHAN)]


def test_a_dead_owners_task_that_is_given_back_ends_here(world):
    # The cancel finds it on its way: without its owner it might wait for ever for its function.
    owner = at(EAST, 5)
    world.submit(1, node=world.east, owner=owner)
    world.request(world.workers[0], 1)
    assert world.sent() == {world.workers[0]: [1]}
    world.cancel(world.east, owner, 1, mode=world.machines.ORPHAN)
    assert world.drain() == [("cancel", world.workers[0], 0, owner, 1, 0, world.machines.ORPHAN)]
    assert world.task(world.workers[0], owner, 1, slot=2) == -1
    assert world.statistics()["known"] == 0


def test_a_loss_of_an_earlier_attempt_leaves_the_later_one(world):
    world.ask(world.east, 1)
    world.submit(1, attempt=2)
    assert world.sent() == {world.east: [1]}
    assert world.lost_there(world.east, at(HOME, 1), 1, attempt=1) == world.origin
    assert world.statistics()["known"] == 1
    assert world.lost_there(world.east, at(HOME, 1), 1, attempt=2) == world.origin
    assert world.statistics()["known"] == 0


def test_a_notice_about_a_task_that_is_here_or_unknown_is_ignored(world):
    world.request(world.workers[0], 1)
    world.submit(1)
    assert world.sent() == {world.workers[0]: [1]}
    world.submit(2)
    for id in (1, 2, 3):
        world.hold(world.west, at(HOME, 1), id)
    assert world.node(world.west)["given"] == 0
    assert world.node(world.workers[0])["given"] == 1


def test_a_result_goes_to_its_owner(world):
    held_by_east(world)
    assert world.result(world.east, at(HOME, 1), 1) == world.origin
    assert world.statistics()["known"] == 0


def test_a_result_may_overtake_the_notice_of_who_has_the_task(world):
    held_by_east(world)
    assert world.result(world.west, at(HOME, 1), 1) == world.origin
    assert world.statistics()["known"] == 0
    world.hold(world.west, at(HOME, 1), 1)
    assert world.node(world.west)["given"] == 0


def test_a_result_for_elsewhere_goes_to_that_broker(world):
    world.request(world.workers[0], 1)
    world.submit(1, node=world.east, owner=at(EAST, 5))
    assert world.sent() == {world.workers[0]: [1]}
    assert world.result(world.workers[0], at(EAST, 5), 1) == world.east
    assert world.statistics()["known"] == 0


def test_a_result_of_a_worker_that_has_not_the_task_forgets_nothing(world):
    held_by_east(world)
    assert world.result(world.workers[0], at(HOME, 1), 1) == -1
    assert world.statistics()["known"] == 1


def test_tasks_of_the_same_number_of_two_owners_are_two(world):
    world.submit(1, node=world.east, owner=at(EAST, 5), est_us=1)
    world.submit(1, node=world.east, owner=at(EAST, 6), est_us=1)
    world.submit(1, est_us=1)
    assert world.statistics()["known"] == 3
    world.request(world.workers[0], LONG)
    assert world.sent() == {world.workers[0]: [1, 1, 1]}


def test_neighbouring_numbers_of_an_owner_elsewhere_are_different_tasks(world):
    world.request(world.workers[0], LONG)
    world.submit(*range(1, 21), node=world.east, owner=at(EAST, 5))
    assert world.statistics()["known"] == 20
    assert world.sent() == {world.workers[0]: list(range(1, 21))}
    for id in range(1, 11):
        assert world.result(world.workers[0], at(EAST, 5), id) == world.east
    assert world.node(world.workers[0])["given"] == 10
    world.lost(world.workers[0])
    lost = [action for action in world.drain() if action[0] == "lost"]
    assert sorted(action[3] for action in lost) == list(range(11, 21))


def test_an_answer_goes_to_the_owner_or_its_broker(world):
    held_by_east(world)
    unknown, started, not_started = world.machines.UNKNOWN, world.machines.STARTED, world.machines.NOT_STARTED
    assert world.answer(world.east, at(HOME, 1), 1, started) == (world.origin, started)
    assert world.answer(world.west, at(HOME, 1), 1, started) == (world.origin, unknown), "it is not there"
    assert world.statistics()["known"] == 1
    assert world.answer(world.east, at(HOME, 1), 1, not_started) == (world.origin, not_started)
    assert world.statistics()["known"] == 0
    assert world.answer(world.workers[0], at(EAST, 5), 9, started) == (world.east, started)


# ------------------------------------------------------------------------------------------------ losses


def test_a_lost_peer_loses_our_tasks_and_its_credit(world):
    world.ask(world.east, LONG)
    world.submit(1, 2)
    world.sent()
    world.lost(world.east)
    assert sorted(action[:4] for action in world.drain()) == [
        ("lost", world.origin, 0, 1),
        ("lost", world.origin, 0, 2),
    ]
    world.submit(3)
    assert world.sent() == {}
    assert world.statistics()["known"] == 1


def test_the_queued_tasks_of_a_lost_peers_nodes_are_dropped(world):
    world.submit(1, node=world.east, owner=at(EAST, 5))
    world.submit(2, node=world.west, owner=at(WEST, 5))
    world.drain()
    world.lost(world.east)
    world.request(world.workers[0], LONG)
    did = world.did()
    assert ("drop", -1, 1, 0, 0, 0, 0) in did
    assert [(name, node, slot) for name, node, slot, *_ in did if name == "send"] == [
        ("send", world.workers[0], 2)
    ]


def test_the_running_tasks_of_a_lost_peers_nodes_are_cancelled(world):
    world.request(world.workers[0], LONG)
    world.submit(1, node=world.east, owner=at(EAST, 5), attempt=3)
    world.sent()
    world.lost(world.east)
    assert world.drain() == [("cancel", world.workers[0], 0, at(EAST, 5), 1, 3, world.machines.ORPHAN)]
    assert world.result(world.workers[0], at(EAST, 5), 1) == -1


def test_a_task_for_a_lost_peer_is_refused(world):
    world.lost(world.east)
    assert world.task(world.west, at(EAST, 5), 1) == -1
    assert world.statistics()["dropped"] == 1


def test_a_worker_that_dies_with_a_task_from_elsewhere_is_reported_there(world):
    world.request(world.workers[0], LONG)
    world.submit(1, node=world.east, owner=at(EAST, 5), attempt=2)
    world.sent()
    world.lost(world.workers[0], blamed_owner=at(EAST, 5), blamed_id=1, cause=4)
    assert world.drain() == [("lost", world.east, at(EAST, 5), 1, 2, 4, 1)]


def test_a_loss_there_goes_to_the_node_and_is_forgotten(world):
    held_by_east(world)
    assert world.lost_there(world.west, at(HOME, 1), 1) == -1, "it had given it to somebody who has it"
    assert world.lost_there(world.west, at(HOME, 1), 1, blamed=True) == world.origin, "its worker died of it"
    assert world.statistics()["known"] == 1
    assert world.lost_there(world.east, at(HOME, 1), 1) == world.origin
    assert world.statistics()["known"] == 0
    assert world.lost_there(world.east, at(HOME, 99), 1) == -1


# ----------------------------------------------------------------------------------------------- cancels


def test_a_cancel_follows_the_task_to_the_peer(world):
    held_by_east(world)
    world.cancel(world.origin, at(HOME, 1), 1, attempt=0, mode=1)
    assert world.drain() == [("cancel", world.east, 0, at(HOME, 1), 1, 0, 1)]


def test_a_cancel_from_a_peer_is_answered_with_the_owners_name(world):
    world.submit(1, node=world.east, owner=at(EAST, 5))
    world.cancel(world.east, at(EAST, 5), 1)
    owner, not_started = at(EAST, 5), world.machines.NOT_STARTED
    assert world.drain() == [("answer", world.east, owner, 1, 0, not_started, 0)]
    world.cancel(world.east, at(EAST, 5), 2)
    assert world.drain() == [("answer", world.east, owner, 2, 0, world.machines.UNKNOWN, 0)]
    world.request(world.workers[0], LONG)
    assert ("drop", -1, 1, 0, 0, 0, 0) in world.did()


def test_a_cancel_from_a_peer_goes_on_to_the_worker(world):
    world.request(world.workers[0], LONG)
    world.submit(1, node=world.east, owner=at(EAST, 5))
    world.sent()
    world.cancel(world.east, at(EAST, 5), 1, attempt=0, mode=0)
    assert world.drain() == [("cancel", world.workers[0], 0, at(EAST, 5), 1, 0, 0)]
