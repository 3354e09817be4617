"""Processes: those that work for this one, stopped by it and never by Ctrl-C; and whether another still runs."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any

import psutil

_CAN_BLOCK = hasattr(signal, "pthread_sigmask")


def start(target: Callable[..., Any], *args: Any) -> BaseProcess:
    """Start a process that calls `target`, deaf to Ctrl-C from its first moment: its imports take a second."""
    process = multiprocessing.get_context("spawn").Process(target=_call, args=(target, *args), daemon=True)
    with starting_deaf():
        process.start()
    return process


@contextmanager
def starting_deaf() -> Iterator[None]:
    """Have processes that are started inside be deaf to Ctrl-C from their first moment, where the system can."""
    if not _CAN_BLOCK:
        yield
        return
    resource_tracker.ensure_running()  # started by the process, it would let Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _call(target: Callable[..., Any], *args: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if _CAN_BLOCK:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    target(*args)


def lives(pid: int, seconds: float) -> bool:
    """Say whether a process of this machine runs, and has run for so long; a younger one only has the same number."""
    try:
        process = psutil.Process(pid)
        age = time.time() - process.create_time()
        return process.status() != psutil.STATUS_ZOMBIE and age > seconds - 2
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does: what is under way is undone, and the run says how far it came."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
