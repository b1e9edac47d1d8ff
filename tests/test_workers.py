from threading import Barrier, Event, Thread, current_thread

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from slidelearn.workers import Workers, pieces, single_blas

np.ones((2, 2)) @ np.ones((2, 2))  # loads BLAS


def blas_threads():
    return {lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"}


@pytest.mark.parametrize("n_threads", [1, 2, 7])
def test_results_come_in_the_order_of_the_ranges(n_threads):
    with Workers(n_threads) as workers:
        assert workers.map(lambda start, end: (start, end), pieces(10, 3)) == pieces(10, 3)
        assert workers.map(lambda start, end: 0, []) == []


def test_the_limit_on_blas_ends_with_the_last_who_wants_it():
    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        with Workers(1):
            with single_blas(), Workers(2):
                assert blas_threads() == {1}
            assert blas_threads() == {1}
        assert blas_threads() == before == {2}


def test_who_does_not_multiply_leaves_blas_alone():
    with threadpool_limits(2, user_api="blas"):
        with Workers(1, blas=False):
            assert blas_threads() == {2}
            with Workers(1):
                assert blas_threads() == {1}
        assert blas_threads() == {2}


def test_an_error_restores_the_setting():
    with threadpool_limits(2, user_api="blas"):
        with pytest.raises(ZeroDivisionError), Workers(2) as workers:
            workers.map(lambda start, end: start / 0, pieces(4, 1))
        assert blas_threads() == {2}


def test_calls_that_overlap_leave_the_setting_as_it_was():
    """The first to come is the first to leave, so neither may restore what it found."""
    with threadpool_limits(2, user_api="blas"):
        first, second = Workers(1), Workers(2)
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert blas_threads() == {1}
        second.__exit__(None, None, None)
        assert blas_threads() == {2}


def test_many_threads_may_work_at_once():
    results = []

    def work():
        for _ in range(20):
            with Workers(2) as workers:
                results.append(sum(workers.map(lambda start, end: end - start, pieces(50, 7))))

    with threadpool_limits(2, user_api="blas"):
        threads = [Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [50] * 80
        assert blas_threads() == {2}


@pytest.mark.parametrize("threads", [1, 2])
def test_work_beside_the_caller_hands_over_its_result(threads):
    with Workers(threads) as workers:
        assert workers.submit(lambda: 3).result() == 3


def test_work_beside_the_caller_shares_its_threads():
    with Workers(2) as workers:
        began = Event()
        waiting = workers.submit(lambda: began.wait(10))
        assert workers.map(lambda start, end: end - start, [(0, 2), (2, 5)]) == [2, 3]
        began.set()
        assert waiting.result()


@pytest.mark.parametrize("n_threads", [1, 2, 7])
def test_an_error_leaves_the_ranges_that_nobody_has_begun(n_threads):
    done = []

    def work(start, end):
        done.append(start)
        return 1 / (start - 3)

    with Workers(n_threads) as workers:
        with pytest.raises(ZeroDivisionError):
            workers.map(work, pieces(1000, 1))
        assert len(done) < 1000
        assert workers.map(lambda start, end: start, pieces(4, 1)) == [0, 1, 2, 3]


@pytest.mark.parametrize("culprit", ["caller", "helper"])
def test_an_error_of_any_thread_is_raised(culprit):
    """Both wait until the other has a range, so that each has one."""
    both, caller = Barrier(2, timeout=30), current_thread()

    def work(start, end):
        both.wait()
        if (current_thread() is caller) == (culprit == "caller"):
            raise ZeroDivisionError

    with Workers(2) as workers, pytest.raises(ZeroDivisionError):
        workers.map(work, pieces(2, 1))


@pytest.mark.parametrize("n_threads", [1, 2])
def test_longer_work_is_interruptible(n_threads):
    done = []
    with Workers(n_threads) as workers:
        with pytest.raises(KeyboardInterrupt), workers.interruptible(lambda: len(done) >= 3):
            workers.map(lambda start, end: done.append(start), pieces(100, 1))
        assert 3 <= len(done) <= 3 + n_threads
        with workers.interruptible(None):
            assert workers.map(lambda start, end: start, pieces(4, 1)) == [0, 1, 2, 3]
        assert workers.map(lambda start, end: start, pieces(4, 1)) == [0, 1, 2, 3]


def test_ctrl_c_does_not_wait_for_what_threads_do():
    release, running = Event(), []

    def interrupted():
        with Workers(2) as workers:
            running.append(workers.submit(release.wait))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not running[0].done()
    release.set()
    assert running[0].result(timeout=60)
