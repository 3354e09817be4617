"""Locks of the server: one holder, released with its session, whichever server it is."""

from types import SimpleNamespace

from conftest import kill_session

from labweave.database.locks import ServerLock


def kill_holder(lock):
    """End the session that holds a lock, as a restart of the server does."""
    kill_session(SimpleNamespace(connection=lock._session, backend=lock._session.url.backend))


def test_a_lock_has_one_holder_and_is_free_after_it(database):
    with ServerLock(database.connection, "x" * 70) as first, ServerLock(database.connection, "x" * 70) as second:
        assert first.acquire() and not second.acquire()
        with ServerLock(database.connection, "x" * 69 + "y") as other:
            assert other.acquire()
        first.__exit__(None, None, None)
        assert second.acquire()


def test_a_lock_whose_session_was_lost_is_taken_again_unless_somebody_has_it(database):
    with ServerLock(database.connection, "sync a") as first, ServerLock(database.connection, "sync a") as second:
        assert first.acquire() and first.keep()
        kill_holder(first)
        assert first.keep() and not second.acquire()
        kill_holder(first)
        assert second.acquire() and not first.keep()
        assert second.keep()
