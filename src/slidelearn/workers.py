"""Workers: the threads that coarse pieces of work run on."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from types import TracebackType
from typing import Any, Self, TypeVar

from threadpoolctl import ThreadpoolController

__all__ = ["PIECE", "Workers", "pieces", "single_blas"]

_T = TypeVar("_T")

PIECE = 64  # examples that one thread owns; fixed, so that results do not depend on threads


def pieces(n: int, size: int = PIECE) -> list[tuple[int, int]]:
    """Cut n rows into ranges of one size.

    Examples
    --------
    >>> pieces(5, 2)
    [(0, 2), (2, 4), (4, 5)]
    """
    return [(start, min(start + size, n)) for start in range(0, n, size)]


class _BlasLimit:
    """One BLAS thread in the process for as long as anybody wants it so.

    Finding the libraries takes a millisecond, so it is done once: NumPy's is there by then. Their
    numbers of threads are set one by one: `ThreadpoolController.limit` takes 30 us each time.
    """

    def __init__(self) -> None:
        """Begin with nobody."""
        self._lock = Lock()
        self._users = 0
        self._libraries: list[Any] | None = None
        self._before: list[int] = []

    def enter(self) -> None:
        """Limit BLAS, and remember the setting if nobody else did."""
        with self._lock:
            if self._libraries is None:
                self._libraries = ThreadpoolController().select(user_api="blas").lib_controllers
            if self._users == 0:
                self._before = [library.get_num_threads() for library in self._libraries]
                for library in self._libraries:
                    library.set_num_threads(1)
            self._users += 1

    def leave(self) -> None:
        """Restore the setting once nobody needs the limit any more."""
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._libraries is not None:
                for library, n_threads in zip(self._libraries, self._before, strict=True):
                    library.set_num_threads(n_threads)


_blas = _BlasLimit()


@contextmanager
def single_blas() -> Iterator[None]:
    """Keep BLAS on one thread; any number of threads may do so at once."""
    _blas.enter()
    try:
        yield
    finally:
        _blas.leave()


class Workers:
    """Threads that run coarse pieces of a step; BLAS stays on one thread in each.

    Use as a context manager: the process's BLAS setting is restored at the end.
    """

    def __init__(self, n_threads: int, *, blas: bool = True) -> None:
        """Plan ``n_threads`` threads, the caller's among them; the others start when needed.

        Who knows that nothing will call ``blas`` need not limit it, which takes 6 to 15 us.
        """
        self._n = n_threads
        self._blas = blas
        self._pool: ThreadPoolExecutor | None = None
        self._interrupt: Callable[[], bool] | None = None

    def __enter__(self) -> Self:
        """Start the threads."""
        if self._blas:
            _blas.enter()
        if self._n > 1:
            self._pool = ThreadPoolExecutor(self._n - 1)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Stop the threads and restore the process's settings.

        Ctrl-C does not wait for what they are doing, which may be seconds, and which nobody wants.
        """
        if self._pool is not None:
            self._pool.shutdown(wait=kind is not KeyboardInterrupt, cancel_futures=True)
        if self._blas:
            _blas.leave()

    @contextmanager
    def interruptible(self, interrupt: Callable[[], bool] | None) -> Iterator[None]:
        """Ask before every range of `map` whether to go on; True raises KeyboardInterrupt there."""
        self._interrupt = interrupt
        try:
            yield
        finally:
            self._interrupt = None

    def map(self, work: Callable[..., Any], ranges: Sequence[tuple[int, int]]) -> list[Any]:
        """Run ``work(start, end)`` on every range; results in the order of the ranges.

        Whoever is free takes the next range, the caller too: to sleep and be woken takes as long as
        much of what a step maps. Eight ranges of 0.25 ms took two threads 1.5 ms while the caller
        slept, and 1.1 so; steps on 32,000 examples 0.91 of the time.
        """
        if len(ranges) == 1 and self._interrupt is None:
            return [work(*ranges[0])]
        results: list[Any] = [None] * len(ranges)
        places = iter(range(len(ranges)))

        def take() -> None:
            try:
                for place in places:
                    if self._interrupt is not None and self._interrupt():
                        raise KeyboardInterrupt
                    results[place] = work(*ranges[place])
            except BaseException:
                deque(places, maxlen=0)  # nothing is left for the others
                raise

        helpers: list[Future[None]] = []
        if self._pool is not None:
            helpers = [self._pool.submit(take) for _ in range(min(self._n, len(ranges)) - 1)]
        take()
        for helper in helpers:
            if not helper.cancel():  # it had begun
                helper.result()
        return results

    def submit(self, work: Callable[[], _T]) -> "Future[_T]":
        """Run ``work`` beside what the caller does next, which asks the future for its result.

        It may not map ranges itself: it would wait for the thread that it keeps busy.
        """
        if self._pool is not None:
            return self._pool.submit(work)
        done: Future[_T] = Future()
        done.set_result(work())
        return done
