"""Circuits as graphs, and how alike two of them are.

A node is a selected channel, named `site/channel`; an edge leads from a channel to one of the next site. All functions
take plain arrays. Shapes: k channels selected of a site.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

ROUNDS = (1, 2, 3)  # of the Weisfeiler-Lehman kernel


@dataclass(frozen=True)
class Edge:
    """An edge from a channel to one of the next site."""

    upstream: str
    downstream: str
    weight: float


@dataclass(frozen=True)
class Circuit:
    """The circuit of a cell: a directed graph without circles."""

    nodes: tuple[str, ...]
    edges: tuple[Edge, ...]

    @property
    def pairs(self) -> set[tuple[str, str]]:
        """The edges without their weights."""
        return {(edge.upstream, edge.downstream) for edge in self.edges}


def build_circuit(
    selected: Mapping[str, NDArray[np.int64]],
    weights: Mapping[tuple[str, str], NDArray[np.floating]],
    *,
    edge_k: int = 3,
    keep_zero: bool = False,
) -> Circuit:
    """Return the graph in which each channel has edges from the `edge_k` upstream ones of the largest signed weight.

    Args:
        selected: the channels [k] of each site, in order of depth.
        weights: [k of v, k of u] for consecutive sites (u, v); others have no edges.
        edge_k: at most as many edges into a channel; a site before it with fewer channels gives fewer.
        keep_zero: keep edges of weight zero too, which say nothing: a channel of a pooled map depends on one channel
            alone, so that which of the others fill up the `edge_k` is chance.
    """
    nodes = tuple(f"{site}/{channel}" for site, channels in selected.items() for channel in channels)
    edges = []
    for u, v in pairwise(selected):
        if (u, v) not in weights:
            continue
        for channel, row in zip(selected[v], np.asarray(weights[u, v]), strict=True):
            for place in np.argsort(-row, kind="stable")[:edge_k]:
                if row[place] != 0 or keep_zero:
                    edges.append(Edge(f"{u}/{selected[u][place]}", f"{v}/{channel}", float(row[place])))
    return Circuit(nodes, tuple(edges))


def jaccard(a: Set[object], b: Set[object]) -> float:
    """Return the share of what two sets have in common; two empty sets are alike."""
    return len(a & b) / len(a | b) if a or b else 1.0


def wl_kernel(circuits: Sequence[Circuit], rounds: int) -> NDArray[np.float64]:
    """Return the normalised Weisfeiler-Lehman subtree kernel between circuits, [n, n], 1 on the diagonal.

    Labels are the nodes' names at first; in each of the `rounds` a node's label becomes its own and the sorted ones of
    the nodes to which its edges lead. The kernel is the inner product of how often each label occurs, summed over all
    rounds and the beginning, over the geometric mean of the two circuits' own (Shervashidze et al. 2011).
    """
    return _wl_kernels(circuits, rounds)[rounds]


def _wl_kernels(circuits: Sequence[Circuit], most: int) -> list[NDArray[np.float64]]:
    """Return the kernels of 0 .. `most` rounds."""
    successors = [_successors(circuit) for circuit in circuits]
    names = {node: number for number, node in enumerate(dict.fromkeys(n for c in circuits for n in c.nodes))}
    labels = [{node: names[node] for node in circuit.nodes} for circuit in circuits]
    sums = [_inner_products(labels)]
    for _ in range(most):
        known: dict[tuple[int, ...], int] = {}
        labels = [
            {
                node: known.setdefault((label, *sorted(mine[other] for other in after[node])), len(known))
                for node, label in mine.items()
            }
            for mine, after in zip(labels, successors, strict=True)
        ]
        sums.append(sums[-1] + _inner_products(labels))
    lengths = [np.sqrt(kernel.diagonal()) for kernel in sums]
    with np.errstate(invalid="ignore"):  # of a circuit without nodes there is no likeness
        return [kernel / np.outer(length, length) for kernel, length in zip(sums, lengths, strict=True)]


def _successors(circuit: Circuit) -> dict[str, list[str]]:
    after: dict[str, list[str]] = {node: [] for node in circuit.nodes}
    for upstream, downstream in circuit.pairs:
        after[upstream].append(downstream)
    return after


def _inner_products(labels: Sequence[Mapping[str, int]]) -> NDArray[np.float64]:
    size = 1 + max((label for mine in labels for label in mine.values()), default=-1)
    counts = [np.bincount(np.fromiter(mine.values(), np.int64), minlength=size) for mine in labels]
    table = np.array(counts, dtype=np.float64)
    return table @ table.T


def circuit_similarities(circuits: Sequence[Circuit]) -> dict[str, NDArray[np.float64]]:
    """Return how alike circuits are, [n, n] by measure: `jaccard` of their edges, and `wl1` to `wl3`."""
    pairs = [circuit.pairs for circuit in circuits]
    found = {"jaccard": np.array([[jaccard(a, b) for b in pairs] for a in pairs], dtype=np.float64)}
    kernels = _wl_kernels(circuits, max(ROUNDS))
    return found | {f"wl{rounds}": kernels[rounds] for rounds in ROUNDS}
