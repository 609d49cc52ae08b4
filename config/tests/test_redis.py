"""Redis that is there, stopped, or hangs."""

import time

import pytest
import redis

from config.redis import PAUSE_SECONDS, connections_key, key, quick


def connections():
    return int(quick().get(connections_key()))


def asked_again():
    """Wait until the pause after a failure is over."""
    time.sleep(PAUSE_SECONDS)


def test_keeps_what_it_is_told(own_redis):
    quick().set(key("a", "b"), "c")
    assert quick().get(key("a", "b")) == b"c"


def test_keys_begin_with_the_prefix_of_the_settings(settings):
    settings.REDIS_PREFIX = "mine"
    assert key("a", "b") == "mine:a:b"


@pytest.mark.parametrize("trouble", ["away", "hanging"])
def test_trouble_is_an_error_and_then_over(own_redis, trouble):
    quick().set(key("a"), "b")
    with getattr(own_redis, trouble)():
        with pytest.raises(redis.RedisError):
            quick().get(key("a"))
        # At once again: not asked.
        with pytest.raises(redis.ConnectionError, match="a moment ago"):
            quick().get(key("a"))
        with pytest.raises(redis.ConnectionError, match="a moment ago"), quick().pipeline() as pipeline:
            pipeline.get(key("a")).execute()
        asked_again()
        with pytest.raises(redis.RedisError):
            quick().get(key("a"))
    asked_again()
    quick().set(key("a"), "c")
    assert quick().get(key("a")) == b"c"


def test_an_answer_that_is_an_error_is_no_trouble(own_redis):
    quick().set(key("a"), "b")
    with pytest.raises(redis.ResponseError):
        quick().incr(key("a"))
    assert quick().get(key("a")) == b"b"


@pytest.mark.parametrize("trouble", ["away", "hanging"])
def test_each_connection_after_trouble_is_counted(own_redis, trouble):
    before = connections()
    assert connections() == before
    with getattr(own_redis, trouble)(), pytest.raises(redis.RedisError):
        quick().get(key("a"))
    asked_again()
    assert connections() > before


def test_a_connection_that_broke_while_nobody_asked_is_made_and_counted_anew(own_redis):
    before = connections()
    with own_redis.away():
        pass
    assert connections() > before


def test_a_connection_for_one_more_thread_is_not_counted(own_redis, at_once):
    before = connections()

    def block():
        quick().blpop([key("nothing")], timeout=0.1)

    assert at_once(*[block] * 5) == [None] * 5
    assert connections() == before
    # But each of them is when it broke.
    with own_redis.away():
        pass
    assert at_once(*[block] * 5) == [None] * 5
    assert connections() > before
