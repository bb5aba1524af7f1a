"""Clusters are closed, interrupted and looked at."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

import holocompute as hc

if TYPE_CHECKING:
    from pathlib import Path


def test_status_shows_every_node(cluster: hc.Cluster) -> None:
    states = cluster.status()
    assert [node["state"] for node in states] == ["ready"] * 3
    assert sorted(node["name"] for node in states) == sorted(cluster.nodes)
    assert "3 nodes" in repr(cluster)
    assert "<table>" in cluster._repr_html_()
    assert "<table>" in cluster.zeros(3)._repr_html_()


def test_another_process_uses_the_same_cluster(cluster: hc.Cluster) -> None:
    array = cluster.from_numpy(np.arange(5), name="tests/shared")
    program = "import holocompute as hc; a = hc.connect()['tests/shared']; a[2] = 40; print(a.sum().item())"
    environment = {**os.environ, **cluster.environment()}
    answer = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (answer.returncode, answer.stdout.strip()) == (0, "48"), answer.stderr
    assert array[2] == 40
    cluster.remove(array)


def test_other_threads_run_while_one_waits(cluster: hc.Cluster) -> None:
    results: list[int] = []
    arrays = [cluster.full(1000, value, "int64") for value in range(4)]
    threads = [threading.Thread(target=lambda a=a: results.append(a.sum().item())) for a in arrays]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(results) == [0, 1000, 2000, 3000]


def test_a_closed_cluster_says_so() -> None:
    cluster = hc.local(1)
    array = cluster.zeros(3)
    cluster.close()
    cluster.close()
    assert "closed" in repr(cluster)
    with pytest.raises(hc.HoloError, match="closed"):
        cluster.zeros(3)
    with pytest.raises(hc.HoloError, match="closed"):
        array.to_numpy()


def test_no_node_is_left_when_the_process_is_killed(tmp_path: Path) -> None:
    program = "import sys, holocompute as hc; c = hc.local(2); print(c.environment()['HOLO_CLUSTER'], flush=True)"
    program += "; sys.stdin.read()"
    pipe = subprocess.PIPE
    owner = subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe, text=True, cwd=tmp_path)
    assert owner.stdin is not None
    assert owner.stdout is not None
    addresses = owner.stdout.readline().strip().split(",")
    owner.kill()
    owner.wait(30)
    owner.stdin.close()
    owner.stdout.close()
    assert len(addresses) == 2
    deadline = time.monotonic() + 30
    for address in addresses:
        host, port = address.rsplit(":", 1)
        while time.monotonic() < deadline:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                try:
                    # A node holds its port as long as it lives.
                    probe.bind((host, int(port)))
                    break
                except OSError:
                    continue
        else:
            pytest.fail(f"a node still listens at {address}")


def test_ctrl_c_interrupts_a_call_and_leaves_the_cluster_usable(cluster: hc.Cluster) -> None:
    # Whoever is started in the background ignores SIGINT, and Python then installs no handler.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent.bind(("127.0.0.1", 0))
    timer = threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            hc.connect(
                f"127.0.0.1:{silent.getsockname()[1]}",
                identity=cluster.environment()["HOLO_IDENTITY"],
                connect_timeout=60,
            )
    finally:
        timer.cancel()
        silent.close()
        signal.signal(signal.SIGINT, before)
    assert cluster.arange(10).sum().item() == 45


def test_a_dead_address_is_unreachable_within_its_time(cluster: hc.Cluster) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        with pytest.raises(hc.HoloError) as refused:
            hc.connect(
                f"127.0.0.1:{silent.getsockname()[1]}",
                identity=cluster.environment()["HOLO_IDENTITY"],
                connect_timeout=0.3,
            )
    assert refused.value.code == "HC1401"
    assert refused.value.retryable


def test_arrays_are_not_pickled(cluster: hc.Cluster) -> None:
    with pytest.raises(hc.NotSupported, match="open it by its name"):
        pickle.dumps(cluster.zeros(3))
