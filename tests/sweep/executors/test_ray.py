"""Jobs on a cluster of several nodes, one of which is lost midway."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from rosetta.errors import UsageError
from rosetta.sweep.executors import Limits, executor
from rosetta.sweep.job import Job, Prompt


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"--executor ray needs Ray: pip install 'rosetta-trace\[ray\]'"):
        executor("ray")


@pytest.mark.sweep
@pytest.mark.timeout(600)
def test_a_lost_node_loses_no_job(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="needs Ray (pip install rosetta-trace[ray])")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        doomed = cluster.add_node(num_cpus=1)
        cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False)
        jobs = [Job(str(n), "absent.gguf", "absent.gguf", Prompt("p")) for n in range(6)]
        running = executor("ray").run(jobs, tmp_path, tmp_path, Limits(at_once=6, retries=3))
        ended = [next(running)]
        cluster.remove_node(doomed, allow_graceful=False)
        time.sleep(0.1)
        ended += list(running)
        assert sorted(outcome.job.pair for outcome in ended) == [job.pair for job in jobs]
        assert {outcome.code for outcome in ended} == {2}
        assert {outcome.said for outcome in ended} == {
            "absent.gguf: no such file or directory: check the path"
        }
        assert all(job.report_in(tmp_path).exists() for job in jobs)
    finally:
        ray.shutdown()
        cluster.shutdown()
