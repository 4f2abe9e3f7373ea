"""Work spread over cores: results in order, errors passed on, torch's own threads held back and given back."""

from __future__ import annotations

import sys
import threading
import time

import pytest
import torch

from rosetta.workers import NAME, TURN, aside, one_thread_each, spread


def test_results_come_in_the_order_of_the_items() -> None:
    def slow_first(number: int) -> int:
        time.sleep(0.02 if number == 0 else 0)
        return number * number

    assert spread(slow_first, range(20)) == [number * number for number in range(20)]


def test_items_may_be_any_iterable_even_none() -> None:
    assert spread(str, iter([])) == []
    assert spread(str, (n for n in (1,))) == ["1"]


def test_several_items_are_done_by_the_workers_and_one_on_the_spot() -> None:
    def where(_: int) -> str:
        return threading.current_thread().name

    here = threading.current_thread().name
    assert all(name.startswith(NAME) for name in spread(where, range(4)))
    assert spread(where, [0]) == [here]


def test_work_within_work_does_not_wait_for_itself() -> None:
    """With fewer cores than tasks, a pool that waited for its own tasks would never end."""
    result: list[list[list[int]]] = []

    def outer(number: int) -> list[list[int]]:
        return spread(lambda m: spread(lambda k: number * m * k, range(3)), range(3))

    runner = threading.Thread(target=lambda: result.append(spread(outer, range(64))[63]), daemon=True)
    runner.start()
    runner.join(timeout=30)
    assert result == [[[63 * m * k for k in range(3)] for m in range(3)]]


def test_what_is_done_aside_is_done_by_a_worker_meanwhile_and_within_work_on_the_spot() -> None:
    begun, told = threading.Event(), threading.Event()

    def waits() -> str:
        begun.set()
        assert told.wait(timeout=30)
        return threading.current_thread().name

    result = aside(waits)
    assert begun.wait(timeout=30), "it is not left until it is asked for"
    told.set()
    assert result().startswith(NAME)
    assert spread(lambda number: aside(lambda: number + 1)(), range(64)) == list(range(1, 65))


def test_error_of_a_task_aside_is_raised_where_it_is_waited_for() -> None:
    def fails() -> None:
        raise ValueError("aside")

    result = aside(fails)
    with pytest.raises(ValueError, match="aside"):
        result()


def test_error_of_a_task_is_raised_where_the_work_was_given() -> None:
    def fails(number: int) -> int:
        if number == 3:
            raise ValueError("item 3")
        return number

    with pytest.raises(ValueError, match="item 3"):
        spread(fails, range(8))
    assert spread(fails, [0, 1]) == [0, 1], "the workers are there for the next"


def test_workers_run_torch_in_one_thread_and_without_gradients() -> None:
    found = spread(lambda _: (torch.get_num_threads(), torch.is_inference_mode_enabled()), range(4))
    assert found == [(1, True)] * 4
    assert not torch.is_inference_mode_enabled(), "the mode is each thread's own"


def test_number_of_threads_is_given_back_after_an_error_too() -> None:
    found: list[int] = []

    @one_thread_each()
    def fails() -> None:
        found.append(torch.get_num_threads())
        raise ValueError("inside")

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(ValueError, match="inside"):
            fails()
        assert [*found, torch.get_num_threads()] == [1, 2]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("given", "within"), [(5e-3, TURN), (1e-4, 1e-4)])
def test_threads_take_short_turns_until_the_work_is_done(given: float, within: float) -> None:
    """Whoever has set a shorter one keeps it."""
    found: list[float] = []

    @one_thread_each()
    def fails() -> None:
        found.append(sys.getswitchinterval())
        raise ValueError("inside")

    before = sys.getswitchinterval()
    try:
        sys.setswitchinterval(given)
        with pytest.raises(ValueError, match="inside"):
            fails()
        assert [*found, sys.getswitchinterval()] == pytest.approx([within, given], rel=0.02)
    finally:
        sys.setswitchinterval(before)
