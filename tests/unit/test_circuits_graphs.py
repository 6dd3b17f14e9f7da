"""Circuits as graphs: which edges they have, and how alike two are."""

from __future__ import annotations

import numpy as np

from domix.analyses.circuits.graphs import Circuit, build_circuit, circuit_similarities, jaccard


def chain(widths: dict[str, list[int]]) -> dict[str, np.ndarray]:
    return {site: np.array(channels) for site, channels in widths.items()}


def test_each_channel_keeps_the_largest_signed_weights() -> None:
    selected = chain({"a": [4, 7, 9, 1], "b": [3, 8]})
    weights = {("a", "b"): np.array([[-5.0, 0.2, 0.1, 0.3], [-1.0, -3.0, -2.0, 0.0]])}
    found = build_circuit(selected, weights, edge_k=3)
    assert found.nodes == ("a/4", "a/7", "a/9", "a/1", "b/3", "b/8")
    into_3 = [(edge.upstream, edge.weight) for edge in found.edges if edge.downstream == "b/3"]
    assert into_3 == [("a/1", 0.3), ("a/7", 0.2), ("a/9", 0.1)]  # not the largest by size
    into_8 = [edge.upstream for edge in found.edges if edge.downstream == "b/8"]
    assert into_8 == ["a/4", "a/9"]  # negative ones enter; the one of zero does not, and leaves its place empty


def test_edges_of_weight_zero_are_dropped_unless_asked_for() -> None:
    selected, weights = chain({"a": [0, 1, 2], "b": [0]}), {("a", "b"): np.array([[0.0, 2.0, 0.0]])}
    assert build_circuit(selected, weights).pairs == {("a/1", "b/0")}
    assert len(build_circuit(selected, weights, keep_zero=True).edges) == 3


def test_a_site_with_fewer_channels_than_edges_asked_for_gives_fewer() -> None:
    found = build_circuit(chain({"a": [0], "b": [0, 1]}), {("a", "b"): np.array([[1.0], [2.0]])}, edge_k=3)
    assert found.pairs == {("a/0", "b/0"), ("a/0", "b/1")}


def test_likeness_is_one_with_itself_and_none_without_anything_in_common() -> None:
    one = build_circuit(chain({"a": [0, 1], "b": [0]}), {("a", "b"): np.array([[1.0, 2.0]])})
    half = build_circuit(chain({"a": [0, 2], "b": [0]}), {("a", "b"): np.array([[1.0, 2.0]])})
    other = build_circuit(chain({"a": [5, 6], "b": [7]}), {("a", "b"): np.array([[1.0, 2.0]])})
    found = circuit_similarities([one, half, other])
    assert list(found) == ["jaccard", "wl1", "wl2", "wl3"]
    for values in found.values():
        np.testing.assert_allclose(values.diagonal(), 1)
        np.testing.assert_allclose(values, values.T)
        assert 0 < values[0, 1] < 1 and values[0, 2] == 0
    assert found["jaccard"][0, 1] == 1 / 3
    # names: two of three in common; trees: b/0 alone leads nowhere and stays, a/0 leads to it
    np.testing.assert_allclose(found["wl1"][0, 1], (2 + 2) / (3 + 3))
    assert jaccard(set(), set()) == 1 and circuit_similarities([Circuit((), ())])["jaccard"][0, 0] == 1
