"""A Ray cluster packs the same bytes as the processes of one machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures import make_domainnet_set
from tests.packing import pack_set

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import sys
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from domix.data.pack import packing as pack
from domix.runtime.errors import DataError
from tests.packing import pack_set

root, out, broken = map(Path, sys.argv[1:])
pack_unit = pack.pack_unit


def told(unit, folder):
    (root / ray.get_runtime_context().get_node_id()).touch()
    time.sleep(0.3)  # long enough that no node can do all the work
    return pack_unit(unit, folder)


pack.pack_unit = told
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
cluster.add_node(num_cpus=1)
ray.init(address=cluster.address, log_to_driver=False, logging_level="warning")
assert len([node for node in ray.nodes() if node["Alive"]]) == 2
try:
    pack_set(root, out, poses=3, size=10, driver="ray", workers=0)
    try:
        pack_set(broken, out.with_name("none"), driver="ray", workers=0)
    except DataError as error:
        print(error)
    assert all((root / node["NodeID"]).exists() for node in ray.nodes())
finally:
    ray.shutdown()
    cluster.shutdown()
"""


@pytest.mark.slow
def test_two_nodes_pack_the_same_bytes_as_one_process(tmp_path):
    drawn = make_domainnet_set(tmp_path / "set", domains=["real", "sketch"])
    broken = make_domainnet_set(tmp_path / "broken", domains=["real"])
    archive = (broken / "real.zip").read_bytes()
    (broken / "real.zip").write_bytes(archive.replace(b"IDAT", b"IDAX"))  # checksums no longer fit
    pack_set(drawn, tmp_path / "one", poses=3, size=10)
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "RAY_USAGE_STATS_ENABLED": "0"}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(drawn), str(tmp_path / "ray"), str(broken)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    assert "artist0.png in " in run.stdout
    assert "real.zip is damaged" in run.stdout
    wanted, found = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("one", "ray"))
    assert len([name for name in wanted if name.endswith(".tar")]) == 10
    assert found == wanted
