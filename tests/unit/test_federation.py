"""A broker's view of the other brokers, event by event; after each event the machine checks itself."""

from __future__ import annotations

import pytest

US, MS, S = 1, 1000, 1_000_000
START = 10 * S  # of the clock
PARK, HINT_EVERY, HINT_AGAIN = 20 * MS, 12 * MS, 800 * MS
ANSWER = 20 * MS  # while no round trip is known
ANSWER_LEAST = 1 * MS
HALF = (
    1 * MS
)  # what was heard is worth half after a tenth of a task's run time, which is 10 ms while it is unknown
TRIES = 6
ANYBODY_PER = 64


class World:
    """A Federation that knows brokers 101, 102, ... in the slots 1, 2, ..., and a clock."""

    def __init__(self, machines, peers=3, neighbours=None, seed=1):
        self.federation = machines.FederationHarness(seed)
        self.now = START
        self.slots = list(range(1, peers + 1))
        for slot in self.slots:
            self.federation.peer(100 + slot, slot, neighbours is None or slot in neighbours)
            self.federation.validate()

    def did(self, event, *args):
        """One event; what was decided by it."""
        getattr(self.federation, event)(*args)
        self.federation.validate()
        return self.federation.drain()

    def decide(self, lack_us=0, idle=0, tasks=0, work_us=0, ahead_us=0, after=0):
        self.now += after
        return self.did("decide", lack_us, idle, tasks, work_us, ahead_us, self.now)

    def asked(self, lack_us=64 * MS, idle=64, **more):
        """Decide while hungry; the (slot, need, idle) of the ask, None without one."""
        asks = [(slot, a, b) for name, slot, a, b, _ in self.decide(lack_us, idle, **more) if name == "ask"]
        assert len(asks) <= 1
        return asks[0] if asks else None

    def hinted(self, slot, tasks, seq=1):
        self.did("hint", slot, seq, tasks, self.now)

    def refused(self, slot, referral=0, tasks=0, age_us=0):
        return self.did("refuse", slot, referral, tasks, age_us, self.now)

    def came(self, slot, est_us=10 * MS):
        return self.did("task", slot, est_us, self.now)

    def left(self, slot, tasks):
        return self.did("load", slot, tasks, self.now)

    def given(self, slot, est_us=10 * MS):
        told = self.federation.given(slot, est_us)
        self.federation.validate()
        return self.federation.left_tasks() if told else None

    def on_ask(self, slot, need_us=64 * MS, idle=64, tasks=0, work_us=0, lack_us=0, ahead_us=0):
        return self.did("ask", slot, need_us, idle, lack_us, tasks, work_us, ahead_us, self.now)

    def __getitem__(self, name):
        return self.federation.statistics()[name]


@pytest.fixture
def world(machines):
    return World(machines)


# ------------------------------------------------------------------------------------------ whom to ask


def test_who_lacks_nothing_asks_nobody(world):
    assert world.decide() == []
    assert world.federation.next_us() == 0


def test_alone_there_is_nobody_to_ask(machines):
    assert World(machines, peers=0).asked() is None


def test_an_ask_says_what_is_needed_beyond_ones_own_work(world):
    slot, need_us, idle = world.asked(64 * MS, 64, tasks=4, work_us=40 * MS)
    assert slot in world.slots
    assert (need_us, idle) == (24 * MS, 60)
    assert world["asks"] == 1


def test_idle_nodes_are_reason_enough(world):
    assert world.asked(0, 2)[1:] == (1, 2)


def test_what_is_about_to_be_needed_is_asked_for(world):
    assert world.asked(0, 0, ahead_us=20 * MS, tasks=1, work_us=10 * MS)[1:] == (10 * MS, 0)


def test_as_much_work_as_need_is_no_reason(world):
    assert world.asked(10 * MS, 1, tasks=1, work_us=10 * MS) is None


def test_one_ask_at_a_time(world):
    assert world.asked()
    assert world.asked() is None
    assert world.federation.next_us() == START + ANSWER


def test_an_ask_that_is_not_answered_is_followed_by_another(world):
    assert world.asked()
    assert world.asked(after=ANSWER - 1) is None
    assert world.asked(after=1)


@pytest.mark.parametrize(("trip", "waits"), [(100 * US, ANSWER_LEAST), (4 * MS, 8 * MS), (9 * MS, 18 * MS)])
def test_answers_are_waited_for_as_long_as_the_links_are(world, trip, waits):
    slot = world.asked()[0]
    world.now += trip
    world.refused(slot)
    assert world.asked()
    assert world.asked(after=waits - 1) is None
    assert world.asked(after=1)


def test_answers_that_take_longer_are_learned_from(world):
    trip = 40 * MS
    for _ in range(40):
        slot = world.asked(after=1 * S)[0]
        world.now += trip
        world.refused(slot)
    assert world.asked(after=1 * S)
    assert world.asked(after=trip) is None
    assert world.asked(after=trip)


def test_the_only_one_that_hinted_is_asked(world):
    world.hinted(2, tasks=5)
    for _ in range(2):
        assert world.asked()[0] == 2
        world.came(2)


def test_who_has_more_is_asked_more_often(machines):
    asked = [0, 0, 0, 0]
    for seed in range(400):
        world = World(machines, seed=seed)
        world.hinted(1, tasks=30)
        world.hinted(2, tasks=10)
        asked[world.asked()[0]] += 1
    assert asked[3] == 0
    assert 2 < asked[1] / asked[2] < 4.5


def test_in_a_large_federation_anybody_has_a_weight(machines):
    asked = []
    for seed in range(300):
        world = World(machines, peers=4 * ANYBODY_PER, seed=seed)
        world.hinted(7, tasks=4)
        asked.append(world.asked()[0])
    assert 0.35 < asked.count(7) / len(asked) < 0.65
    assert len(set(asked)) > 50


def test_without_hints_anybody_is_asked(machines):
    assert {World(machines, seed=seed).asked()[0] for seed in range(50)} == {1, 2, 3}


def test_a_hint_of_nothing_is_no_candidate(machines):
    asked = set()
    for seed in range(50):
        world = World(machines, seed=seed)
        world.hinted(2, tasks=0)
        asked.add(world.asked()[0])
    assert asked == {1, 2, 3}


def test_what_was_heard_is_worth_less_with_age(machines):
    asked = [0, 0, 0, 0]
    for seed in range(400):
        world = World(machines, seed=seed)
        world.hinted(1, tasks=64)
        world.now += 3 * HALF  # worth 8
        world.hinted(2, tasks=24)
        asked[world.asked()[0]] += 1
    assert asked[3] == 0
    assert 2 < asked[2] / asked[1] < 4.5


def test_in_the_end_it_is_worth_nothing(machines):
    asked = set()
    for seed in range(50):
        world = World(machines, seed=seed)
        world.hinted(2, tasks=5)
        asked.add(world.asked(after=3 * HALF)[0])
    assert asked == {1, 2, 3}


def test_of_long_tasks_it_is_worth_something_for_longer(machines):
    for seed in range(20):
        world = World(machines, seed=seed)
        world.came(1, est_us=10 * S)
        world.hinted(2, tasks=5)
        assert world.asked(after=2 * S)[0] == 2


def test_an_older_hint_is_no_news(world):
    world.hinted(2, tasks=5, seq=7)
    world.hinted(2, tasks=0, seq=6)
    world.hinted(2, tasks=0, seq=7)
    assert world["hints_heard"] == 1
    assert world.asked()[0] == 2


def test_a_hint_of_a_stranger_or_a_dead_one_is_ignored(world):
    world.did("gone", 2)
    world.hinted(2, tasks=5)
    world.hinted(77, tasks=5)
    assert world["hints_heard"] == 0


def test_a_giver_says_what_it_has_left(machines):
    for seed in range(20):
        world = World(machines, seed=seed)
        world.left(3, tasks=5)
        world.came(3)
        assert world.asked()[0] == 3


def test_a_giver_that_refuses_or_dies_has_no_more(machines):
    for event in ("refuse", "gone"):
        asked = set()
        for seed in range(50):
            world = World(machines, seed=seed)
            world.left(3, tasks=5)
            assert world.asked()[0] == 3
            if event == "refuse":
                world.refused(3)
            else:
                world.did("gone", 3)
            asked.add(world.asked()[0])
        assert asked == ({1, 2, 3} if event == "refuse" else {1, 2})


def test_what_a_stranger_or_a_dead_one_has_left_is_ignored(world):
    world.did("gone", 2)
    for slot in (2, 77):
        world.left(slot, tasks=5)
    assert world.asked()[0] != 2


def test_no_number_is_too_large_to_be_believed(machines):
    for seed in range(20):
        world = World(machines, seed=seed)
        world.left(2, tasks=2**63 - 1)
        world.hinted(3, tasks=2**62)
        world.refused(world.asked()[0], 101, 2**62, 2**64 - 1)
        assert world.asked()[0] in world.slots


def test_who_is_given_something_is_told_once_in_a_turn_what_is_left(world):
    world.decide(tasks=7, work_us=70 * MS)
    assert [world.given(1), world.given(1), world.given(2)] == [7, None, 7]
    world.decide(lack_us=20 * MS, tasks=6, work_us=60 * MS)
    assert world.given(1) == 4, "beyond our own need"
    assert world.given(77) is None


def test_who_asks_has_nothing(machines):
    asked = set()
    for seed in range(50):
        world = World(machines, seed=seed)
        world.hinted(2, tasks=5)
        world.on_ask(2)
        asked.add(world.asked()[0])
    assert asked == {1, 2, 3}


# ---------------------------------------------------------------------------------- refusals and pauses


def test_a_referral_is_followed_where_nothing_else_is_known(machines):
    for referral in (101, 102, 103):
        for seed in range(10):
            world = World(machines, seed=seed)
            world.refused(world.asked()[0], referral, 4)
            assert world.asked()[0] == referral - 100


def test_a_referral_is_a_belief_among_others(machines):
    asked = [0] * 5
    for seed in range(400):
        world = World(machines, peers=4, seed=seed)
        world.hinted(4, tasks=1000)
        assert world.asked()[0] == 4
        world.hinted(1, tasks=10, seq=2)
        world.refused(4, 102, 30)
        asked[world.asked()[0]] += 1
    assert asked[3] == asked[4] == 0
    assert 2 < asked[2] / asked[1] < 4.5


def test_what_a_refusal_says_of_another_is_believed_until_there_is_news(machines):
    for seed in range(20):
        world = World(machines, seed=seed)
        world.hinted(1, tasks=5)
        world.now += 100
        world.refused(world.asked()[0], 102, 50, 50)  # which is later than the hint
        assert world.asked()[0] == 2
        world.refused(2, 101, 500, 200)  # and this is older than what broker 1 has refused
        world.asked()
        assert world.on_ask(3)[0] == ("refuse", 3, 0, 0, 0), "nobody is known to have anything"


def test_a_referral_to_nobody_known_is_no_referral(machines):
    world = World(machines, peers=1)
    world.refused(world.asked()[0], referral=999)
    assert world.asked()[0] == 1


def test_a_referral_to_a_dead_one_is_not_followed(machines):
    world = World(machines, peers=2)
    world.hinted(1, tasks=5)
    world.refused(world.asked()[0], referral=102)
    world.did("gone", 2)
    assert world.asked()[0] == 1


def test_who_refused_has_nothing(machines):
    world = World(machines, peers=2)
    world.hinted(1, tasks=50)
    world.hinted(2, tasks=5)
    assert world.asked()[0] == 1
    world.refused(1)
    assert world.asked()[0] == 2


def test_a_refusal_of_an_ask_that_is_over_is_ignored(world):
    asked = world.asked()[0]
    world.refused(next(slot for slot in world.slots if slot != asked))
    assert world.asked() is None, "still waiting for the one that was asked"


def failed_round(world, tries=TRIES):
    for _ in range(tries):
        asked = world.asked()
        assert asked
        world.refused(asked[0])


def pause(world):
    """How long until it asks again."""
    assert world.asked() is None
    length = world.federation.next_us() - world.now
    assert world.asked(after=length - 1) is None
    world.now += 1
    return length


def test_after_some_tries_comes_a_pause(world):
    failed_round(world)
    assert 100 <= pause(world) <= 300, "0.2 ms, by dice half as long to one and a half times"
    assert world.asked()


def test_pauses_double_up_to_a_limit(world):
    lengths = []
    for _ in range(10):
        failed_round(world)
        lengths.append(pause(world))
    for length, middle in zip(lengths, [200, 400, 800, *[1000] * 7], strict=True):
        assert middle // 2 <= length <= middle * 3 // 2
    assert len(set(lengths)) > 5, "dice"


@pytest.mark.parametrize(("est_us", "most"), [(1, 1 * MS), (100 * MS, 10 * MS), (10 * S, 10 * MS)])
def test_the_longest_pause_is_a_tenth_of_a_task(world, est_us, most):
    world.came(1, est_us)
    for _ in range(12):
        failed_round(world)
        length = pause(world)
    assert most // 2 <= length <= most * 3 // 2


def test_when_nothing_comes_for_long_the_pauses_are_long(world):
    for _ in range(64):
        failed_round(world)
        assert pause(world) <= 15 * MS
    for _ in range(12):
        failed_round(world)
        length = pause(world)
    assert length >= 500 * MS


def test_a_fresh_hint_ends_the_pause(world):
    failed_round(world)
    assert world.asked() is None
    world.hinted(2, tasks=1)
    assert world.asked()[0] == 2


def test_a_hint_of_nothing_does_not_end_it(world):
    failed_round(world)
    world.hinted(2, tasks=0)
    assert world.asked() is None


def test_a_new_broker_ends_the_pause(world):
    failed_round(world)
    world.did("peer", 104, 4, True)
    assert world.asked()


def test_a_task_ends_the_pause_and_makes_the_next_one_short(world):
    for _ in range(5):
        failed_round(world)
        pause(world)
    failed_round(world)
    world.came(1)
    failed_round(world)
    assert pause(world) <= 300


# ------------------------------------------------------------------------------------ what others are given


def granted(actions):
    return [(slot, a, b) for name, slot, a, b, _ in actions if name == "credit"]


def test_our_own_nodes_come_first(world):
    work = {"tasks": 4, "work_us": 40 * MS}
    assert granted(world.on_ask(1, 64 * MS, 64, lack_us=20 * MS, **work)) == [(1, 20 * MS, 2)]
    assert world.on_ask(2, 64 * MS, 64, lack_us=40 * MS, **work)[0][0] == "refuse"


def test_two_that_think_ahead_do_not_send_tasks_to_and_fro(world):
    work = {"tasks": 4, "work_us": 40 * MS, "ahead_us": 40 * MS}
    assert world.on_ask(1, 64 * MS, 0, **work)[0][0] == "refuse"
    assert world.on_ask(2, 64 * MS, 1, **work)[0][0] == "credit", "but idle nodes get them"


def test_who_asks_gets_what_it_needs_of_much(world):
    assert world.on_ask(1, 64 * MS, 2, tasks=1000, work_us=10 * S) == [("credit", 1, 70 * MS, 2, 0)]
    assert world["refusals"] == 0


def test_idle_nodes_get_a_task_each_however_long(world):
    assert world.on_ask(1, 64 * MS, 64, tasks=1000, work_us=1000 * S) == [("credit", 1, 64 * S, 64, 0)]


def test_of_little_everybody_that_waits_gets_its_share(world):
    world.on_ask(1)
    world.on_ask(2)
    assert granted(world.on_ask(3, 64 * MS, 64, tasks=12, work_us=120 * MS)) == [(3, 40 * MS, 4)]
    world.given(1)
    assert granted(world.on_ask(3, 64 * MS, 64, tasks=12, work_us=120 * MS)) == [(3, 60 * MS, 6)]


def test_who_was_promised_something_that_is_gone_is_refused(world):
    world.on_ask(1, tasks=5, work_us=50 * MS)
    world.on_ask(2, tasks=5, work_us=50 * MS)
    assert world.decide(tasks=1, work_us=10 * MS)[1:] == [], "there is something yet"
    world.given(2)
    assert world.decide() == [("refuse", 1, 0, 0, 0)]
    assert world.decide() == []


def test_a_share_is_one_task_at_least(world):
    world.on_ask(1)
    assert granted(world.on_ask(2, 64 * MS, 64, tasks=1, work_us=10 * MS)) == [(2, 10 * MS, 1)]


def test_who_has_nothing_refuses_and_parks_the_asker_for_one_task(world):
    assert world.on_ask(1) == [("refuse", 1, 0, 0, 0), ("credit", 1, 10 * MS, 1, 0)]
    assert (world["refusals"], world["parked"]) == (1, 1)


def test_a_refusal_names_one_by_belief_but_never_the_asker(machines):
    named = {102: 0, 103: 0}
    for seed in range(400):
        world = World(machines, seed=seed)
        world.hinted(1, tasks=100)
        world.hinted(2, tasks=10)
        world.hinted(3, tasks=30)
        named[world.on_ask(1)[0][2]] += 1
    assert 2 < named[103] / named[102] < 4.5


def test_a_refusal_passes_half_of_a_belief_on(world):
    world.hinted(2, tasks=7)
    world.now += 100
    told = [world.on_ask(1)[0] for _ in range(4)]
    assert told == [
        ("refuse", 1, 102, 4, 100),
        ("refuse", 1, 102, 2, 100),
        ("refuse", 1, 102, 1, 100),
        ("refuse", 1, 0, 0, 0),
    ], "with its age"


def test_a_refusal_names_nobody_by_an_old_hint(world):
    world.hinted(2, tasks=5)
    world.now += 3 * HALF
    assert world.on_ask(1)[0] == ("refuse", 1, 0, 0, 0)


def test_parking_ends(world):
    world.on_ask(1)
    assert world.decide(after=PARK - 1) == []
    assert world.federation.next_us() == START + PARK
    assert world.decide(after=1) == [("credit", 1, 0, 0, 0)]
    assert world["parked"] == 0
    assert world.decide() == []


def test_who_asks_again_is_parked_anew(world):
    world.on_ask(1)
    world.decide(after=PARK - 1)
    world.on_ask(1)
    assert world["parked"] == 1
    assert world.decide(after=1) == []
    assert granted(world.decide(after=PARK)) == [(1, 0, 0)]


def test_a_stranger_or_a_dead_one_gets_nothing(world):
    world.did("gone", 1)
    assert world.on_ask(1, tasks=10, work_us=1 * S) == []
    assert world.on_ask(77, tasks=10, work_us=1 * S) == []
    assert world["parked"] == 0


def test_the_mean_of_what_moved_stands_for_what_is_unknown(world):
    world.given(2, 5 * MS)
    assert granted(world.on_ask(1)) == [(1, 5 * MS, 1)]


# ----------------------------------------------------------------------------------------------- hints


def hints(actions):
    return [(a, b, c) for name, slot, a, b, c in actions if name == "hint"]


def test_work_is_hinted_at_with_a_growing_number(world):
    assert hints(world.decide(tasks=4, work_us=40 * MS)) == [(4, 40 * MS, 1)]
    assert hints(world.decide(tasks=0, after=1 * S)) == [(0, 0, 2)]


def test_only_what_is_beyond_ones_own_need_is_hinted_at(world):
    assert hints(world.decide(lack_us=30 * MS, tasks=4, work_us=40 * MS)) == [(1, 10 * MS, 1)]


def test_no_hint_without_news(world):
    assert world.decide() == []
    world.decide(tasks=8, work_us=8)
    for tasks in (8, 16, 4):
        assert hints(world.decide(tasks=tasks, work_us=8, after=HINT_AGAIN // 4)) == []


@pytest.mark.parametrize("tasks", [0, 3, 17])
def test_zero_or_a_factor_of_two_is_news(world, tasks):
    world.decide(tasks=8, work_us=8)
    assert len(hints(world.decide(tasks=tasks, work_us=8, after=HINT_AGAIN // 4))) == 1


def test_hints_are_as_rare_as_there_are_neighbours(machines):
    world = World(machines, peers=5, neighbours={1, 2, 4})
    world.decide(tasks=1, work_us=1)
    assert hints(world.decide(tasks=100, work_us=1, after=3 * HINT_EVERY - 1)) == []
    assert world.federation.next_us() == START + 3 * HINT_EVERY
    assert hints(world.decide(tasks=100, work_us=1, after=1)) == [(100, 1, 2)]


def test_what_has_not_changed_is_said_again(world):
    world.decide(tasks=8, work_us=8)
    assert hints(world.decide(tasks=8, work_us=8, after=HINT_AGAIN - 1)) == []
    assert world.federation.next_us() == START + HINT_AGAIN
    assert hints(world.decide(tasks=8, work_us=8, after=1)) == [(8, 8, 2)]


def test_nothing_is_not_said_again(world):
    world.decide(tasks=8, work_us=8)
    world.decide(after=1 * S)
    assert world.decide(after=10 * S) == []


def test_nobody_hears_so_nothing_is_said(machines):
    assert World(machines, neighbours=set()).decide(tasks=8, work_us=8) == []


# ---------------------------------------------------------------------------------------- brokers that die


def test_a_dead_broker_is_neither_asked_nor_named(machines):
    for seed in range(20):
        world = World(machines, seed=seed)
        world.hinted(2, tasks=5)
        world.did("gone", 2)
        assert world.on_ask(1)[0] == ("refuse", 1, 0, 0, 0)
        assert world.asked()[0] in (1, 3)
        assert world["brokers"] == 2


def test_when_all_are_dead_nobody_is_asked(world):
    for slot in world.slots:
        world.did("gone", slot)
        world.did("gone", slot)
    assert world["brokers"] == 0
    assert world.asked() is None


def test_when_the_one_that_was_asked_dies_another_is_asked_at_once(world):
    first = world.asked()[0]
    world.did("gone", first)
    assert world.asked()[0] != first


def test_a_dead_broker_is_no_longer_parked(world):
    world.on_ask(1)
    world.did("gone", 1)
    assert world["parked"] == 0
    assert world.decide(after=PARK) == []


def test_one_that_comes_back_counts_its_hints_from_the_beginning(world):
    world.hinted(2, tasks=5, seq=9)
    world.did("gone", 2)
    world.did("peer", 102, 2, True)
    world.hinted(2, tasks=5, seq=1)
    assert world["hints_heard"] == 2
    assert world["brokers"] == 3
    assert world.asked()[0] == 2


def test_as_many_brokers_as_there_are(machines):
    world = World(machines, peers=1000, neighbours={1})
    assert world["brokers"] == 1000
    world.hinted(777, tasks=100_000)
    assert world.asked()[0] == 777


def test_the_same_dice_decide_the_same(machines):
    def story(seed):
        world = World(machines, peers=20, seed=seed)
        told = []
        for _ in range(30):
            asked = world.asked(after=5 * MS)
            if asked:
                told.append(asked)
                world.refused(asked[0])
        return told

    assert story(5) == story(5)
    assert story(5) != story(6)
