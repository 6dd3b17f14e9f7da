"""How far apart a model's embedding keeps the domains: a map to look at, distances, and one number a domain.

* `umap_table`: UMAP (McInnes et al. 2018), seeded, of a seeded draw of images from each domain.
* `distance_table`: L2 distance between the mean embeddings of two domains (kind `domain`), and the mean over the
  classes that both have of the distance between their class means (kind `class`), which no difference in classes can
  feign.
* `separability_table`: how well a linear probe tells one domain from the rest in classes it has not seen.

All three take L2-normalised embeddings (single dimensions of these: dimensions.py). Shapes: N images, D embedding, G
domains, K classes.
"""

from __future__ import annotations

import logging
import warnings
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domix.analyses.means import group_means
from domix.analyses.probe import can_probe, fit_grouped
from domix.analyses.sampling import draw_rows
from domix.data.mixtures.cells import suggest
from domix.embed.embeddings import Embeddings
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.seeds import derive

log = logging.getLogger(__name__)

UMAP_SEEDS = 2**32  # UMAP takes NumPy's legacy seeds


def nearest_neighbours(image: NDArray[np.float32], count: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Find the `count` images nearest to each of [N, D], itself among them: numbers and L2 distances [N, count].

    UMAP's own search is slow for small sets and approximate for large ones.
    """
    from sklearn.neighbors import NearestNeighbors

    found = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(image).kneighbors(image, return_distance=False)
    # From differences, not from inner products as the search: equal images are at distance 0, which UMAP relies on.
    apart = np.stack([np.linalg.norm(image - image[near], axis=1) for near in found.T], axis=1)
    order = np.argsort(apart, axis=1, kind="stable")
    near, distances = np.take_along_axis(found, order, axis=1), np.take_along_axis(apart, order, axis=1)
    return near.astype(np.int32), distances.astype(np.float32)


def umap_points(
    image: NDArray[np.float32], *, neighbours: int, min_distance: float, densmap: bool, seed: int
) -> NDArray[np.float32]:
    """Lay images [N, D] out in two dimensions, [N, 2]; equal input gives equal points.

    Raises:
        DataError: there are not more images than neighbours.
    """
    if len(image) <= neighbours:
        raise DataError(
            f"UMAP needs more images than neighbours, but there are {len(image)} and {neighbours}: "
            "lower neighbours or raise images",
            argument="neighbours",
        )
    with warnings.catch_warnings():
        # UMAP says that a seed means one thread, and that neighbours from elsewhere forbid to add points later.
        warnings.filterwarnings("ignore", message=r"n_jobs value|precomputed_knn\[2\]")
        warnings.filterwarnings("ignore", category=ImportWarning)  # it misses TensorFlow, for a variant not used here
        from umap import UMAP  # here: it compiles for seconds when imported

        reducer = UMAP(
            n_neighbors=neighbours,
            min_dist=min_distance,
            densmap=densmap,
            precomputed_knn=nearest_neighbours(image, neighbours),
            random_state=derive(seed, "umap") % UMAP_SEEDS,
            n_jobs=1,
        )
        points = reducer.fit_transform(image)
    if not np.isfinite(points).all():
        raise DataError(
            "UMAP gave points that are not finite: set densmap to false or change the seed", argument="densmap"
        )
    return np.asarray(points, dtype=np.float32)


def umap_table(
    embeddings: Embeddings,
    *,
    images: int,
    neighbours: int,
    min_distance: float,
    densmap: bool,
    seed: int,
    without: str | None = None,
) -> pd.DataFrame:
    """Draw `images` images a domain, but of none called `without`, and lay them out: columns row, domain, class, x, y.

    Of the other domains it draws the same images.

    Raises:
        ParameterError: there is no domain `without`.
        DataError: there are not more images than neighbours.
    """
    chosen = draw_rows(embeddings.rows["domain"].to_numpy(dtype=object), images, seed=seed)
    if without is not None:
        if without not in embeddings.domains:
            hint = suggest(without, embeddings.domains)
            raise ParameterError(f"there is no domain {without!r}: {hint}", argument="without")
        chosen = chosen[(embeddings.rows["domain"] != without).to_numpy()[chosen]]
    points = umap_points(
        embeddings.image_embeddings[chosen],
        neighbours=neighbours,
        min_distance=min_distance,
        densmap=densmap,
        seed=seed,
    )
    table = embeddings.rows.iloc[chosen][["row", "domain", "class"]].reset_index(drop=True)
    return table.assign(x=points[:, 0], y=points[:, 1])


def distance_table(embeddings: Embeddings) -> pd.DataFrame:
    """Measure how far domains are apart: columns kind (domain|class), domain_a, domain_b, distance.

    Every ordered pair has its row, a domain and itself too (0), as a heat map wants it. Two domains without a common
    class have no distance of kind `class`, and no row; a domain without images has none at all.
    """
    names, classes = embeddings.domains, len(embeddings.classes)
    domain = domain_numbers(embeddings)
    label = embeddings.rows["label"].to_numpy()
    domain_means, sizes = group_means(embeddings.image_embeddings, domain, len(names))
    cell_means, _ = group_means(embeddings.image_embeddings, domain * classes + label, len(names) * classes)
    cell_means_GKD = cell_means.reshape(len(names), classes, -1)
    rows = []
    present = np.flatnonzero(sizes)
    for a in present:
        for b in present:
            rows.append(("domain", names[a], names[b], float(np.linalg.norm(domain_means[a] - domain_means[b]))))
            apart_K = np.linalg.norm(cell_means_GKD[a] - cell_means_GKD[b], axis=1)
            common = np.isfinite(apart_K)
            if common.any():
                rows.append(("class", names[a], names[b], float(apart_K[common].mean())))
    for a, b in combinations(present, 2):
        if not np.isfinite(cell_means_GKD[a] + cell_means_GKD[b]).any():
            log.warning("%s and %s have no class in common: they have no class-wise distance", names[a], names[b])
    table = pd.DataFrame(rows, columns=["kind", "domain_a", "domain_b", "distance"])
    return table.sort_values("kind", ascending=False, kind="stable", ignore_index=True)


def separability_table(embeddings: Embeddings) -> pd.DataFrame:
    """Measure how well a linear probe tells each domain from the rest: columns domain, value, n.

    `value` is the balanced accuracy, 0.5 by chance and 1 where the domain stands apart, of a ridge classifier that
    weighs both sides alike, over five folds that share no class: what it learns of a style must hold for new classes.
    `n` is the number of the domain's images. A domain without images, or one that stands alone, has no row.
    """
    from sklearn.metrics import balanced_accuracy_score

    domain, label = domain_numbers(embeddings), embeddings.rows["label"].to_numpy()
    rows = []
    for number, name in enumerate(embeddings.domains):
        inside = domain == number
        if not can_probe(inside, label):
            log.warning("no separability of %s: a probe needs it and another domain, each in two classes", name)
            continue
        told = fit_grouped(embeddings.image_embeddings, inside, label).taken
        rows.append((name, float(balanced_accuracy_score(inside, told)), int(inside.sum())))
    return pd.DataFrame(rows, columns=["domain", "value", "n"]).astype({"value": "float64", "n": "int64"})


def domain_numbers(embeddings: Embeddings) -> NDArray[np.int64]:
    """Return the number of each image's domain: int64 [N]."""
    number = {name: place for place, name in enumerate(embeddings.domains)}
    return embeddings.rows["domain"].map(number).to_numpy(dtype=np.int64)
