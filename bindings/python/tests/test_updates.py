"""Atomic updates, fills and copies: what is decided on this side, and what comes of it on real nodes."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from stand_in import stand_in

import holocompute as hc


def test_an_index_of_several_axes_is_flat_on_the_way_to_the_node() -> None:
    array: Any = stand_in((4, 5), "int64")
    assert array.fetch_add((2, -1), 3) == 7
    assert array._native.updates == [(14, "add", np.int64(3).tobytes(), None)]
    with pytest.raises(IndexError, match="out of bounds"):
        array.fetch_add((4, 0), 1)
    for index in [2, (slice(1, 2), 0), ...]:
        with pytest.raises(TypeError, match="one element"):
            array.swap(index, 1)


def test_values_of_updates_must_be_elements() -> None:
    array: Any = stand_in(3, "int32")
    with pytest.raises(TypeError, match="no element"):
        array.fetch_add(0, 2.5)
    with pytest.raises(TypeError, match="no element"):
        array.fetch_add(0, [1, 2])
    with pytest.raises(OverflowError):
        array.fetch_add(0, 1 << 40)
    assert array._native.updates == []


def test_an_exchange_says_whether_it_happened() -> None:
    array: Any = stand_in(3, "float32")
    assert array.compare_exchange(1, 7, 8) == (True, np.float32(7))
    assert array.compare_exchange(1, 6, 8) == (False, np.float32(7))
    seven, eight = np.float32(7).tobytes(), np.float32(8).tobytes()
    assert array._native.updates[0] == (1, "compare_exchange", eight, seven)


def test_numbers_are_filled_in_and_not_written_out() -> None:
    array: Any = stand_in((4, 5), "int16")
    three = np.int16(3).tobytes()
    array[...] = 3
    array.fill(3)
    array[1:3] = 3
    array[0, 0] = np.int64(3)
    assert array._native.fills == [
        ("everything", three),
        ("everything", three),
        ([(1, 3, 1), (0, 5, 1)], three),
        ([0, 0], three),
    ]


def test_updates_return_what_was_there(cluster: hc.Cluster) -> None:
    array = cluster.zeros((3, 4), "int64")
    assert array.fetch_add((1, 2), 5) == 0
    assert array.fetch_max((1, 2), 9) == 5
    assert array.fetch_min((1, 2), 4) == 9
    assert array.fetch_or((1, 2), 3) == 4
    assert array.fetch_and((1, 2), 6) == 7
    assert array.swap((1, 2), -1) == 6
    assert array.compare_exchange((1, 2), 0, 1) == (False, -1)
    assert array.compare_exchange((1, 2), -1, 1) == (True, -1)
    assert array[1, 2] == 1
    assert array.sum().item() == 1, "the neighbours are what they were"
    floats = cluster.zeros(2, "float64")
    assert floats.fetch_add(0, 1.5) == 0.0
    assert floats[0] == 1.5
    with pytest.raises(hc.HoloError) as refused:
        floats.fetch_and(0, 1)
    assert refused.value.code == "HC1001"


def test_threads_that_add_lose_nothing(cluster: hc.Cluster) -> None:
    array = cluster.zeros(4, "int32")

    def add() -> None:
        for _ in range(25):
            array.fetch_add(3, 1)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    hc.sync()
    cluster.sync()
    assert array.to_numpy().tolist() == [0, 0, 0, 100]


def test_arrays_have_as_many_copies_as_were_asked_for(cluster: hc.Cluster) -> None:
    usual = cluster.zeros(100)
    assert (usual.replicas, usual.min_in_sync) == (2, 1)
    single, triple = cluster.ones(100, replicas=1), cluster.empty(100, replicas=3, min_in_sync=2)
    assert (single.replicas, triple.replicas, triple.min_in_sync) == (1, 3, 2)
    assert cluster.from_numpy(np.arange(100), replicas=3).replicas == 3
    assert cluster.zeros(100).replicas >= 2, "a single copy beside it is no reason to have one"
    np.testing.assert_array_equal(single.to_numpy(), np.ones(100))
    with pytest.raises(hc.HoloError) as refused:
        cluster.zeros(100, replicas=2, min_in_sync=3)
    assert refused.value.code == "HC1001"


def test_a_deadline_belongs_to_a_handle(cluster: hc.Cluster) -> None:
    array = cluster.arange(10)
    hurried = array.with_deadline(60)
    del array
    assert hurried[3] == 3
    with pytest.raises(hc.HoloError):
        hurried.with_deadline(-1)
