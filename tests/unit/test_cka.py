"""Comparing all domains of a checkpoint: which rows the table has, and what is left out with a reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from domix.analyses.cka.alignment import compare_domains
from domix.analyses.hsic import Kernel, Median, cka
from domix.embed.embeddings import Embeddings, load_embeddings
from domix.runtime.errors import DataError
from tests.fakes import make_index, write_embeddings

DOMAINS = ("clipart", "real", "sketch")
ALL = np.ones(8, dtype=bool)
MEDIANS: tuple[Median, ...] = ("mean", "lower")


@pytest.fixture
def embeddings(tmp_path: Path) -> Embeddings:
    write_embeddings(tmp_path / "run", make_index({name: [1] * 8 for name in DOMAINS}, 2), width=8)
    return load_embeddings(tmp_path / "run")


def change_layer(embeddings: Embeddings, name: str, where: tuple, value: float) -> None:
    path = embeddings.folder / "layers.safetensors"
    layers = load_file(path)
    layers[name][where] = value
    save_file(layers, path)


def test_one_row_for_each_layer_kernel_subset_and_pair(embeddings: Embeddings) -> None:
    test = np.arange(8) < 4
    table = compare_domains(embeddings, kernels=["linear", "rbf"], subsets={"all": ALL, "test": test, "seen": ~test})
    assert len(table) == 2 * 2 * 3 * 3
    assert not table.duplicated(["layer", "kernel", "classes", "domain_a", "domain_b"]).any()
    assert (table["domain_a"] < table["domain_b"]).all()
    assert table.groupby("layer")["depth"].unique().map(list).to_dict() == {"stem": [0], "output": [1]}
    assert table.groupby("classes")["n"].unique().map(list).to_dict() == {"all": [8], "test": [4], "seen": [4]}


def test_a_row_holds_the_cka_of_its_two_domains(embeddings: Embeddings) -> None:
    table = compare_domains(embeddings, kernels=["linear"], subsets={"all": ALL})
    row = table[(table["layer"] == "output") & (table["domain_a"] == "clipart") & (table["domain_b"] == "sketch")]
    means = embeddings.layer("output")
    assert row["value"].item() == pytest.approx(cka(means[0], means[2]))


def test_classes_that_a_domain_lacks_are_left_out_of_its_pairs(tmp_path: Path) -> None:
    test = {"clipart": [2] * 8, "real": [0, 0, *[2] * 6], "sketch": [2] * 8}
    write_embeddings(tmp_path / "run", make_index({name: [1] * 8 for name in DOMAINS}, test), width=8)
    embeddings = load_embeddings(tmp_path / "run")
    change_layer(embeddings, "stem", (1, slice(0, 2)), np.nan)
    table = compare_domains(embeddings, kernels=["linear"], subsets={"all": ALL})
    n = table[table["layer"] == "stem"].set_index(["domain_a", "domain_b"])["n"]
    assert n.to_dict() == {("clipart", "real"): 6, ("clipart", "sketch"): 8, ("real", "sketch"): 6}


def test_too_few_classes_leave_no_row_but_a_reason(embeddings: Embeddings, caplog: pytest.LogCaptureFixture) -> None:
    table = compare_domains(embeddings, kernels=["linear"], subsets={"all": ALL, "test": np.arange(8) < 3})
    assert set(table["classes"]) == {"all"}
    assert "no CKA of clipart and real over test classes, 2 times (layers, kernels): only 3" in caplog.text


@pytest.mark.parametrize("where", [(1, 5, 3), (1, 5)])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_class_means_that_are_not_finite_are_named(embeddings: Embeddings, where: tuple, value: float) -> None:
    change_layer(embeddings, "stem", where, value)
    says = "the class means of layer stem are not finite for class_5 in real"
    with pytest.raises(DataError, match=f"^{says}$") as caught:
        compare_domains(embeddings, kernels=["linear"], subsets={"all": ALL})
    assert caught.value.remake == embeddings.folder / "layers.safetensors"


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_one_channel_is_enough(kernel: Kernel) -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(20, 1))
    assert cka(a, 3 * a - 1, kernel) == pytest.approx(1)
    assert abs(cka(a, rng.normal(size=(20, 1)), kernel)) < 0.5


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize("value", [0.0, 0.1])
def test_a_layer_that_does_not_tell_classes_apart_has_no_cka(
    embeddings: Embeddings, kernel: Kernel, value: float, caplog: pytest.LogCaptureFixture
) -> None:
    change_layer(embeddings, "stem", (0,), value)
    table = compare_domains(embeddings, kernels=[kernel], subsets={"all": ALL})
    left = table[table["layer"] == "stem"]
    assert list(zip(left["domain_a"], left["domain_b"], strict=True)) == [("real", "sketch")]
    assert "class means do not differ" in caplog.text


def test_the_lower_median_moves_rbf_alone(embeddings: Embeddings) -> None:
    both = [compare_domains(embeddings, kernels=["linear", "rbf"], subsets={"all": ALL}, median=m) for m in MEDIANS]
    same = both[0]["value"] == both[1]["value"]
    assert same[both[0]["kernel"] == "linear"].all()
    assert not same[both[0]["kernel"] == "rbf"].any()


@pytest.mark.parametrize(("rows_a", "rows_b"), [(3, 3), (5, 6)])
def test_refuses_too_few_or_unpaired_samples(rows_a: int, rows_b: int) -> None:
    with pytest.raises(ValueError, match="same samples, at least 4"):
        cka(np.eye(rows_a), np.eye(rows_b))
