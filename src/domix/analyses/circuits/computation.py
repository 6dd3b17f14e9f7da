"""The tables of one run: a circuit for each cell, how alike they are between domains, and how faithful.

Shapes: B images, C channels of a site, k of them selected, G cells, D embedding, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby, pairwise
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from domix.activations.encode import encode
from domix.activations.reducers import Moments, TopExamples
from domix.analyses.circuits import HELD_OUT, OWN
from domix.analyses.circuits.attribution import at_once, cosine_with, image_effects, image_weights, select
from domix.analyses.circuits.draw import Cell, draw_cells, draw_classes
from domix.analyses.circuits.faithfulness import ablated, judged, random_like, selected_by_others
from domix.analyses.circuits.graphs import Circuit, build_circuit, circuit_similarities, jaccard
from domix.analyses.circuits.settings import Settings
from domix.encoders.segments import INPUT
from domix.encoders.sites import require_site
from domix.runtime.errors import ParameterError
from domix.runtime.seeds import torch_generator

if TYPE_CHECKING:
    from domix.analyses.contract import RunInputs


@dataclass(frozen=True)
class CellCircuit:
    """A cell with its circuit, by site: every channel's effect [C], those selected [k], and for each image [B, C] the
    channels that the cell's other images select (an only image selects its own)."""

    cell: Cell
    effects: Mapping[str, NDArray[np.floating]]
    selected: Mapping[str, NDArray[np.int64]]
    by_others: Mapping[str, Tensor]
    circuit: Circuit


def run(inputs: RunInputs, settings: Settings) -> dict[str, pd.DataFrame]:
    """Find and compare the circuits of one run.

    Raises:
        DataError: the model or images are missing or damaged, or the model lacks a site or gives values that are not
            finite.
        ParameterError: the sites are not in order of depth.
    """
    rows, study = inputs.test_images(), inputs.study
    classes = draw_classes(study, settings.test_classes, settings.seen_classes, seed=settings.seed)
    cells = draw_cells(rows, list(study.domains), classes, settings.images, seed=settings.seed)
    names = _in_order(settings.sites, [site.name for site in inputs.model.encoder.sites])
    images = _Images(inputs, rows)
    known = [cell for cell in cells if len(cell.images)]
    found = [
        circuit
        for group in images.groups(known, names, settings.steps)
        for circuit in _circuits(images, group, names, settings)
    ]
    depth = {name: place for place, name in enumerate(names)}
    means, top = _activations(images, found, [name for name in names if name != INPUT])
    return {
        "cells": pd.DataFrame(
            [(cell.domain, cell.name, len(cell.images)) for cell in cells], columns=["domain", "class", "images"]
        ),
        "nodes": _nodes(found, depth, top),
        "edges": _edges(found, depth),
        "node_similarity": _node_similarity(found, depth),
        "similarity": _similarity(found),
        "faithfulness": _faithfulness(images, found, means, settings),
    }


def _in_order(wanted: list[str] | None, known: list[str]) -> list[str]:
    """Return the sites wanted, or all, after a check that each stands behind the one before."""
    known, names = [INPUT, *known], wanted or known
    for name in names:
        require_site(name, known)
    for before, behind in pairwise(names):
        if known.index(before) >= known.index(behind):
            raise ParameterError(
                f"the site {behind} does not stand behind {before}: name each once, in order of depth", argument="sites"
            )
    return names


class _Images:
    """The run's model and the test images, as the parts of this module read them."""

    def __init__(self, inputs: RunInputs, rows: pd.DataFrame) -> None:
        self.model, self.source, self.rows = inputs.model, inputs.sources[0], rows
        self.encoder, self.segments = inputs.model.encoder, inputs.model.encoder.segments()
        device = self.encoder.device
        self.text = torch.from_numpy(inputs.embeddings.text).to(device)
        self.labels = torch.tensor(rows["label"].tolist(), device=device)

    def read(self, places: NDArray[np.int64]) -> Iterator[Tensor]:
        """Yield images uint8 [B, 3, H, W] at places of the table."""
        return self.model.batches(self.source, self.rows.iloc[places])

    def normalised(self, places: NDArray[np.int64]) -> Tensor:
        """Return images [B, 3, H, W] at places of the table as the model reads them."""
        images = torch.cat(list(self.read(places))).to(self.encoder.device)
        return self.encoder.preprocess.normalise(images)

    def groups(self, cells: Sequence[Cell], names: Sequence[str], steps: int) -> Iterator[list[Cell]]:
        """Yield cells of which the images together can be attributed at once; a large one stands alone."""
        with torch.no_grad():
            _, at = self.segments.record(self.normalised(cells[0].images[:1]), names)
        most = max(1, at_once(max(at.values(), key=torch.numel)) // steps)
        group: list[Cell] = []
        for cell in cells:
            if group and sum(len(other.images) for other in group) + len(cell.images) > most:
                yield group
                group = []
            group.append(cell)
        yield group


def _circuits(images: _Images, cells: Sequence[Cell], names: Sequence[str], settings: Settings) -> list[CellCircuit]:
    """Find the circuits of some cells, whose images share their batches."""
    places = np.concatenate([cell.images for cell in cells])
    device = images.encoder.device
    sizes = torch.tensor([len(cell.images) for cell in cells], device=device)
    cell_of = torch.arange(len(cells), device=device).repeat_interleave(sizes)
    pixels = images.normalised(places)
    metric = cosine_with(images.text[images.labels[places]])
    each = image_effects(images.segments, pixels, metric, names, steps=settings.steps)
    of_cell = {site: values.split(sizes.tolist()) for site, values in each.items()}
    effects = {site: _sums(values, cell_of, len(cells)) / sizes[:, None] for site, values in each.items()}
    selected = {site: torch.stack([select(row, settings.share) for row in values]) for site, values in effects.items()}
    linked = {site: channels[cell_of] for site, channels in selected.items() if site != INPUT}
    weights = {
        pair: _sums(values, cell_of, len(cells)) / sizes[:, None, None] ** 2
        for pair, values in image_weights(images.segments, pixels, linked, steps=settings.steps).items()
    }
    found = []
    for place, cell in enumerate(cells):
        mine = {site: channels[place].cpu().numpy() for site, channels in selected.items()}
        circuit = build_circuit(
            {site: channels for site, channels in mine.items() if site != INPUT},
            {pair: values[place].cpu().numpy() for pair, values in weights.items()},
            edge_k=settings.edge_k,
            keep_zero=settings.keep_zero,
        )
        others = {
            site: selected_by_others(values[place], settings.share) for site, values in of_cell.items() if site != INPUT
        }
        own = {site: values[place].cpu().numpy() for site, values in effects.items()}
        found.append(CellCircuit(cell, own, mine, others, circuit))
    return found


def _sums(values: Tensor, cell_of: Tensor, cells: int) -> Tensor:
    """Add up [B, ...] over the images of each cell: [G, ...]."""
    return torch.zeros(cells, *values.shape[1:], dtype=values.dtype, device=values.device).index_add_(
        0, cell_of, values
    )


def _activations(
    images: _Images, found: Sequence[CellCircuit], sites: Sequence[str]
) -> tuple[dict[str, Tensor], dict[tuple[str, str], NDArray[np.int64]]]:
    """Return the mean activation [C] by site over all images drawn, and by domain and site the row of the image among
    those drawn of the domain that activates each channel most [C]."""
    moments, top, done = Moments(sites), {}, 0
    for domain in dict.fromkeys(one.cell.domain for one in found):
        places = np.concatenate([one.cell.images for one in found if one.cell.domain == domain])
        most = TopExamples(sites, 1)
        start, done = done, encode(images.encoder, images.read(places), [moments, most], first=done)
        rows = images.rows["row"].to_numpy()[places]
        top |= {(domain, site): rows[most.result()[f"{site}/row"][:, 0] - start] for site in sites}
    return {site: torch.from_numpy(moments.result()[f"{site}/mean"]).to(images.encoder.device) for site in sites}, top


def _nodes(
    found: Sequence[CellCircuit], depth: Mapping[str, int], top: Mapping[tuple[str, str], NDArray[np.int64]]
) -> pd.DataFrame:
    rows = []
    for one in found:
        for site, channels in one.selected.items():
            seen = top.get((one.cell.domain, site), np.full(len(one.effects[site]), -1))  # of the input none
            for channel in channels.tolist():
                effect = float(one.effects[site][channel])
                rows.append((one.cell.domain, one.cell.name, site, depth[site], channel, effect, int(seen[channel])))
    return pd.DataFrame(rows, columns=["domain", "class", "site", "depth", "channel", "effect", "image"])


def _edges(found: Sequence[CellCircuit], depth: Mapping[str, int]) -> pd.DataFrame:
    rows = []
    for one in found:
        for edge in one.circuit.edges:
            site, _, channel = edge.downstream.rpartition("/")
            upstream = edge.upstream.rpartition("/")[2]
            rows.append((one.cell.domain, one.cell.name, site, depth[site], int(channel), int(upstream), edge.weight))
    columns = ["domain", "class", "site", "depth", "channel", "upstream", "weight"]
    return pd.DataFrame(rows, columns=columns).astype(
        {"depth": "int64", "channel": "int64", "upstream": "int64", "weight": "float64"}
    )


def _node_similarity(found: Sequence[CellCircuit], depth: Mapping[str, int]) -> pd.DataFrame:
    rows = []
    for name, mine in _by_class(found):
        for a, b in combinations(mine, 2):
            for site in depth:
                if site != INPUT:
                    value = jaccard(set(a.selected[site].tolist()), set(b.selected[site].tolist()))
                    rows.append((name, site, depth[site], a.cell.domain, b.cell.domain, value))
    columns = ["class", "site", "depth", "domain_a", "domain_b", "value"]
    return pd.DataFrame(rows, columns=columns).astype({"depth": "int64", "value": "float64"})


def _similarity(found: Sequence[CellCircuit]) -> pd.DataFrame:
    rows = []
    for name, mine in _by_class(found):
        likeness = circuit_similarities([one.circuit for one in mine])
        for measure, values in likeness.items():
            for a, b in combinations(range(len(mine)), 2):
                rows.append((name, measure, mine[a].cell.domain, mine[b].cell.domain, float(values[a, b])))
    return pd.DataFrame(rows, columns=["class", "measure", "domain_a", "domain_b", "value"]).astype(
        {"value": "float64"}
    )


def _by_class(found: Sequence[CellCircuit]) -> Iterator[tuple[str, list[CellCircuit]]]:
    return ((name, list(mine)) for name, mine in groupby(found, key=lambda one: one.cell.name))


def _faithfulness(
    images: _Images, found: Sequence[CellCircuit], means: Mapping[str, Tensor], settings: Settings
) -> pd.DataFrame:
    """Measure what is still known when circuits, or all but them, are taken away, domain by domain."""
    counts = [len(one.cell.images) for one in found]
    places, cell_of = np.concatenate([one.cell.images for one in found]), np.repeat(np.arange(len(found)), counts)
    kept = _kept(found, list(means), settings)
    ways = [("all", "none")] + [(name, by) for name in kept if name != "all" for by in ("zero", "mean")]
    judgements: dict[tuple[str, str], list[NDArray[np.float64]]] = {way: [] for way in ways}
    done = 0
    for batch in images.read(places):
        part = slice(done, done + len(batch))
        done += len(batch)
        labels = images.labels[places[part]]
        for name, by in ways:
            drawn = []
            for masks in kept[name]:
                mine = {site: mask[part].to(images.encoder.device) for site, mask in masks.items()}
                fill = means if by == "mean" else None
                output = ablated(images.encoder, batch, mine, fill, nhwc=images.segments.nhwc)
                drawn.append(torch.stack(judged(output, images.text, labels)).double())
            judgements[name, by].append(torch.stack(drawn).mean(dim=0).cpu().numpy())
    keys = pd.DataFrame(
        {
            "domain": np.array([one.cell.domain for one in found], dtype=object)[cell_of],
            "judged": np.where(np.array(counts)[cell_of] > 1, HELD_OUT, OWN),
        }
    )
    parts = []
    for (name, by), values in judgements.items():
        accuracy, cosine = np.concatenate(values, axis=1)
        each = keys.assign(kept=name, by=by, accuracy=accuracy, cosine=cosine, n=1)
        measured = {"accuracy": "mean", "cosine": "mean", "n": "sum"}
        parts.append(each.groupby(["domain", "judged", "kept", "by"], sort=False, as_index=False).agg(measured))
    return pd.concat(parts, ignore_index=True)


def _kept(found: Sequence[CellCircuit], sites: Sequence[str], settings: Settings) -> dict[str, list[dict[str, Tensor]]]:
    """Return which channels stay for each image, bool [N, C] by site; of random circuits several draws."""
    circuit = {site: torch.cat([one.by_others[site].cpu() for one in found]) for site in sites}
    drawn = []
    for number in range(settings.random):
        masks: dict[str, list[Tensor]] = {site: [] for site in sites}
        for one in found:
            stream = torch_generator(settings.seed, "random circuit", one.cell.domain, one.cell.name, number)
            for site in sites:
                like = random_like(one.by_others[site][0].cpu(), stream)
                masks[site].append(like.expand(len(one.cell.images), -1))
        drawn.append({site: torch.cat(parts) for site, parts in masks.items()})
    every = {site: torch.ones_like(masks) for site, masks in circuit.items()}
    kept = {"all": [every], "circuit": [circuit], "random": drawn}
    for name in ("circuit", "random"):
        kept[f"not {name}"] = [{site: ~masks for site, masks in one.items()} for one in kept[name]]
    return kept
