"""Circuits: node and edge scores against the reference study's formulas taken literally, a whole pass for each."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from domix.analyses.circuits.attribution import AT_ONCE, cosine_with, edge_scores, node_scores, select
from domix.analyses.circuits.graphs import Circuit, build_circuit, wl_kernel
from domix.encoders.clip_resnet import ResNetSegments
from domix.encoders.segments import INPUT, Segments
from domix.encoders.sites import site_modules
from tools.circuits_loop import STEPS, literal_edges, literal_nodes, positions, whole_pass

CLASSES, DIM, IMAGES = 5, 6, 3


class Block(nn.Module):
    """A residual block whose activation changes its input in place, as torchvision's and open_clip's do."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.skip = nn.Conv2d(inside, outside, 1) if inside != outside else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv(x)
        out += self.skip(x)
        return self.act(out)


class Toy(nn.Module):
    """A tower of ten modules, with a module that is called twice and a path around all blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.act, self.pool = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True), nn.AvgPool2d(2)
        self.blocks = nn.ModuleList([Block(8, 8), Block(8, 12), Block(12, 12), Block(12, 20)])
        self.around = nn.Conv2d(8, 20, 1)
        self.mix, self.head = nn.Linear(20, 16), nn.Linear(16, DIM)

    def forward(self, images: Tensor) -> Tensor:
        x = start = self.pool(self.act(self.conv1(images)))
        for block in self.blocks:
            x = block(x)
        x = (x + self.around(start)).mean(dim=(2, 3))
        return self.head(self.act(self.mix(x)))


def toy() -> tuple[nn.Module, dict[str, nn.Module]]:
    model = Toy()
    names = ["conv1", "pool", "blocks.0", "blocks.1", "blocks.2", "blocks.3", "mix", "head"]
    return model, {name: model.get_submodule(name) for name in names}


def resnet() -> tuple[nn.Module, dict[str, nn.Module]]:
    model = ModifiedResNet([2, 1, 1, 1], output_dim=DIM, heads=2, image_size=32, width=4)
    for block in (*model.layer1, *model.layer2, *model.layer3, *model.layer4):
        nn.init.normal_(block.get_parameter("bn3.weight"))  # zeros at first: then blocks pass their input on
    return model, site_modules(model)


def vit() -> tuple[nn.Module, dict[str, nn.Module]]:
    model = VisionTransformer(image_size=32, patch_size=16, width=16, layers=3, heads=2, mlp_ratio=2.0, output_dim=DIM)
    return model, site_modules(model)


TOWERS = {"toy": toy, "resnet": resnet, "chain": resnet, "vit": vit}  # chain: CLIP's ResNet as encoders cut it


def prepare(kind: str) -> tuple[nn.Module, Segments, Tensor, Tensor]:
    """Return a tower in float64, cut at its sites, images, and the text of their class for each."""
    torch.manual_seed(3)
    model, sites = TOWERS[kind]()
    for name, buffer in model.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    text = F.normalize(torch.randn(CLASSES, DIM, dtype=torch.float64), dim=-1)
    images = torch.randn(IMAGES, 3, 32, 32, dtype=torch.float64)
    model = model.double().eval()
    segments = ResNetSegments(model, model) if kind == "chain" else Segments(model, sites)  # ty: ignore[invalid-argument-type]
    return model, segments, images, text[[2] * IMAGES]


@pytest.mark.parametrize("kind", TOWERS)
def test_node_scores_are_the_references(kind: str) -> None:
    model, segments, images, text = prepare(kind)
    expected = literal_nodes(model, segments.modules, images, text)
    found = node_scores(segments, images, cosine_with(text), [INPUT, *segments.modules], steps=STEPS)
    assert list(found) == list(expected) and all(value.abs().sum() > 0 for value in list(expected.values())[:-1])
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", TOWERS)
def test_edge_scores_are_the_references(kind: str) -> None:
    model, segments, images, _ = prepare(kind)
    sites = segments.modules
    widths = {name: positions(value).shape[-1] for name, value in whole_pass(model, sites, images, {}).items()}
    selected = {name: torch.randperm(widths[name])[: min(4, math.ceil(widths[name] / 3))] for name in sites}
    expected = literal_edges(model, sites, images, selected)
    found = edge_scores(segments, images, selected, steps=STEPS)
    assert list(found) == list(expected) and all(value.abs().sum() > 0 for value in expected.values())
    for pair, value in expected.items():
        torch.testing.assert_close(found[pair], value, rtol=1e-10, atol=1e-14)


def test_edges_that_pass_over_sites_are_the_references() -> None:
    model, segments, images, text = prepare("chain")
    sites = {name: segments.modules[name] for name in ("act1", "act3", "layer1.1", "layer4.0")}
    selected = {name: torch.tensor([1, 0]) for name in sites}
    found = edge_scores(segments, images, selected, steps=STEPS)
    for pair, value in literal_edges(model, sites, images, selected).items():
        torch.testing.assert_close(found[pair], value, rtol=1e-10, atol=1e-14)
    nodes = node_scores(segments, images, cosine_with(text), ["act3"])  # without avgpool, to which all is linear
    torch.testing.assert_close(nodes["act3"], literal_nodes(model, sites, images, text)["act3"], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["toy", "chain"])
def test_small_parts_give_the_same_numbers(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, segments, images, text = prepare(kind)
    names = list(segments.modules)
    whole = node_scores(segments, images, cosine_with(text), names)
    selected = {name: select(values) for name, values in whole.items()}
    edges = edge_scores(segments, images, selected)
    monkeypatch.setitem(AT_ONCE, "cpu", 1)
    for name, values in node_scores(segments, images, cosine_with(text), names).items():
        torch.testing.assert_close(values, whole[name])
    for pair, values in edge_scores(segments, images, selected).items():
        torch.testing.assert_close(values, edges[pair])


def literal_wl(graphs: list[Circuit], rounds: int) -> list[list[float]]:
    """The Weisfeiler-Lehman subtree kernel by the trees themselves, written out as nested tuples, none numbered."""

    def tree(graph: Circuit, node: str, depth: int) -> Any:
        if depth == 0:
            return node
        after = [edge.downstream for edge in graph.edges if edge.upstream == node]
        return (tree(graph, node, depth - 1), tuple(sorted((tree(graph, n, depth - 1) for n in after), key=repr)))

    features = [Counter((d, tree(g, n, d)) for d in range(rounds + 1) for n in g.nodes) for g in graphs]
    raw = [[sum(count * b[key] for key, count in a.items()) for b in features] for a in features]
    return [[raw[i][j] / math.sqrt(raw[i][i] * raw[j][j]) for j in range(len(raw))] for i in range(len(raw))]


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_the_wl_kernel_counts_common_subtrees(rounds: int) -> None:
    generator = np.random.default_rng(rounds)
    graphs = []
    for _ in range(5):
        selected = {f"s{depth}": np.sort(generator.choice(6, 4, replace=False)) for depth in range(5)}
        weights = {pair: np.round(generator.normal(size=(4, 4))) for pair in pairwise(selected)}
        graphs.append(build_circuit(selected, weights, edge_k=2))
    found = wl_kernel(graphs, rounds)
    np.testing.assert_allclose(found, literal_wl(graphs, rounds), rtol=0, atol=1e-14)
    assert found[0, 1] != wl_kernel(graphs, rounds % 3 + 1)[0, 1]
