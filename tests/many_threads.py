"""Threads that begin together."""

import threading
from concurrent.futures import ThreadPoolExecutor

N_THREADS = 16


def in_threads(work, n=N_THREADS):
    """Run `work` with the numbers of so many threads at once, and return what each gives."""
    start = threading.Barrier(n)

    def run(number):
        start.wait(60)
        return work(number)

    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(run, range(n)))
