"""The measurement of embedding: what is counted, and that the loops compared give the same; no test asserts a speed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from domix.runtime.errors import ParameterError
from tests.tiny import CONFIG
from tools import bench_embed


def test_decodes_are_counted_and_both_loops_give_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_embed, "CONFIG", CONFIG)
    found = bench_embed.measure(tmp_path / "project", images=23, checkpoints=4, turns=2, device="cpu")
    assert (found["ours_decodes"], found["reference_decodes"]) == (23, 23 * 4)
    assert {name for name in found if name.endswith("_s")} == {"ours_s", "forward_s", "reference_s"}
    bench_embed.tell(found)
    assert (
        "times fewer decodes than the reference           4.00   (target: at least 10.00: missed)"
        in capsys.readouterr().out
    )


def test_loops_that_differ_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_embed, "CONFIG", CONFIG)
    bench_embed.write_project(tmp_path, images=23, checkpoints=1)
    bench_embed.ours(tmp_path, "cpu")
    image = np.load(tmp_path / "out/image.npy")
    (tmp_path / "out/image.npy").unlink()  # else what is kept would change, too
    np.save(tmp_path / "out/image.npy", image[::-1])
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        bench_embed.reference(tmp_path, "cpu", first=1)


@pytest.mark.parametrize("option", ["--images", "--checkpoints", "--turns"])
def test_numbers_that_are_not_positive_are_refused(option: str) -> None:
    with pytest.raises(ParameterError, match=f"{option} must be positive, not 0"):
        bench_embed.parse([option, "0"])
