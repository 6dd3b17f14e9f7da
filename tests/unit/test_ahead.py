"""Work done one piece ahead, by a thread: in order, no more than one, and nothing after an error."""

from __future__ import annotations

import threading
import time

import pytest

from domix.runtime.ahead import ahead


def wait_until(told: list[int], length: int) -> None:
    end = time.monotonic() + 30
    while len(told) < length:
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_results_come_in_order(count: int) -> None:
    assert list(ahead(lambda part: part * 2, range(count))) == [2 * part for part in range(count)]


def test_one_is_made_while_one_is_used_and_no_more() -> None:
    made: list[int] = []
    results = ahead(lambda part: made.append(part) or part, range(9))
    assert made == []
    assert next(results) == 0
    wait_until(made, 2)
    time.sleep(0.05)
    assert made == [0, 1]
    results.close()
    assert made == [0, 1]


def test_an_error_is_raised_where_its_result_was_due_and_ends_the_work() -> None:
    made: list[int] = []

    def make(part: int) -> int:
        made.append(part)
        return 1 // (2 - part)

    results = ahead(make, range(9))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert made == [0, 1, 2]


def test_the_thread_is_prepared_once_and_ends() -> None:
    prepared: list[str] = []
    before = threading.active_count()
    names = set(
        ahead(
            lambda part: threading.current_thread().name,
            range(3),
            prepare=lambda: prepared.append(threading.current_thread().name),
        )
    )
    assert prepared == list(names) != [threading.current_thread().name]
    assert threading.active_count() == before
