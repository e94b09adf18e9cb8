"""gevent."""

from time import monotonic

import gevent
from _program import batches, start_plainly


def nothing():
    pass


def once():
    gevent.sleep(0)


def spawn(count, func=nothing):
    for batch in batches(count):
        gevent.joinall([gevent.spawn(func) for _ in batch])


def spawn_yield(count):
    spawn(count, once)


def pass_on(rounds):
    for _ in rounds:
        gevent.sleep(0)


def switch(rounds, others_rounds):
    gevent.joinall([gevent.spawn(pass_on, each) for each in (rounds, others_rounds)])


def sleeper(watch, deadline):
    gevent.sleep(max(deadline - monotonic(), 0))
    watch.woke(deadline)


def timers(watch):
    gevent.joinall([gevent.spawn(sleeper, watch, deadline) for deadline in watch.deadlines])


start_plainly({'spawn': spawn, 'spawn_yield': spawn_yield, 'switch': switch, 'timers': timers})
