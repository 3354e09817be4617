"""A process that is gone at one exact moment: before its n-th statement, or start or end of another program."""

import os
import subprocess
from collections.abc import Callable

import pymysql
from datajoint.adapters.postgres import PostgreSQLAdapter

KILLED = 9


def is_killed_at(n: int, work: Callable[[], object]) -> bool:
    """Do some work in a process of its own that ends, without any tidying up, before its n-th step.

    Returns
    -------
    bool
        Whether it came to that; else the work was done whole.
    """
    child = os.fork()
    if child == 0:
        try:
            _die_at(n)
            work()
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
        os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, KILLED), f"step {n}: exit code {code}"
    return code == KILLED


def _die_at(n: int) -> None:
    left = n

    def counted(function):
        def call(*args, **options):
            nonlocal left
            left -= 1
            if left <= 0:
                os._exit(KILLED)
            return function(*args, **options)

        return call

    pymysql.connections.Connection.query = counted(pymysql.connections.Connection.query)
    PostgreSQLAdapter.get_cursor = counted(PostgreSQLAdapter.get_cursor)
    subprocess.Popen.__init__ = counted(subprocess.Popen.__init__)
    subprocess.Popen.wait = counted(subprocess.Popen.wait)
