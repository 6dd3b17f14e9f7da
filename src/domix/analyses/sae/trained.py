"""The sparse autoencoder of a run: trained once for all analyses that ask for it, and kept by what it hangs on.

<cache>/autoencoders/<digest>/     weights (domix.analyses.sae.files)
<cache>/autoencoders/states/       where a training that was cut short goes on

It learns from the training images of the multi-domain source and of the corpora in the run's mixture, whatever that
shows of them, as the reference study's do, so that the runs' autoencoders have seen the same images. Test images it
sees when it is measured.

An activation is an image's, averaged over its positions, or that of one position. Of every position, a unit's value on
an image is the mean over them, as the pooled activation is, so that what is said of images means the same either way.

Shapes: N images, P positions, C channels, F units.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from domix.activations.store import ActivationStore
from domix.analyses.sae.autoencoder import SparseAutoencoder
from domix.analyses.sae.files import load, save
from domix.analyses.sae.reconstruction import ImageReconstruction, Reconstruction, decode, encode, reconstruct_positions
from domix.analyses.sae.settings import Autoencoder
from domix.analyses.sae.training import StoreFeed, Training, unit_rows
from domix.analyses.sampling import draw_rows
from domix.data.mixtures.mixture import read_mixture
from domix.data.store.index import read_index
from domix.encoders.sites import Site, require_site
from domix.runtime.code_digest import code_digest
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import digest_of, explain
from domix.runtime.kept import Kept
from domix.runtime.locks import alone
from domix.runtime.seeds import torch_generator
from domix.train.resume import Store

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from domix.analyses.contract import RunInputs


SMALL = 2**27  # multiplications a step below which threads wait for each other longer than they work


@dataclass(frozen=True)
class Trained:
    """A run's autoencoder and the activations that it reads."""

    inputs: RunInputs
    settings: Autoencoder
    site: Site
    autoencoder: SparseAutoencoder

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The test images, N rows of the index, in the order of all that is computed of them."""
        return self.inputs.test_images()

    @property
    def every_position(self) -> bool:
        """Whether an activation is that of one position."""
        return every_position(self.settings, self.site)

    @cached_property
    def activations(self) -> NDArray[np.float32]:
        """The test images' activations as an autoencoder of images reads them, [N, C].

        Raises:
            DataError: an image cannot be read, or an activation is not finite.
        """
        if self.settings.unit_length and self.site == self.inputs.model.encoder.sites[-1]:
            return self.inputs.embeddings.image_embeddings  # are just that
        return np.concatenate([images[:, 0] for images in self._images()])

    @cached_property
    def codes(self) -> NDArray[np.float32]:
        """The units' values of the test images, [N, F]; of every position their mean."""
        return self.reconstruction.codes if self.every_position else encode(self.autoencoder, self.activations)

    @cached_property
    def reconstruction(self) -> Reconstruction:
        """What the autoencoder makes of the test images' activations."""
        if self.every_position:
            return reconstruct_positions(self.autoencoder, self._images())
        return ImageReconstruction(self.activations, self.codes, decode(self.autoencoder, self.codes))

    def _images(self) -> Iterator[NDArray[np.float32]]:
        """Yield the test images' activations as the autoencoder reads them, some images at a time: [n, P, C]."""
        store = _store(self.inputs, self.inputs.sources[0], self.rows, self.site.name, self.every_position)
        for shard in store.rows(self.site.name):
            rows = shard.astype(np.float32)
            rows = unit_rows(rows) if self.settings.unit_length else rows
            yield rows.reshape(-1, store.positions[self.site.name], rows.shape[1])


def every_position(settings: Autoencoder, site: Site) -> bool:
    """Tell whether an activation is that of one position: as asked for, if the site has any."""
    return settings.positions == "every" and site.kind != "vector"


def train_for(inputs: RunInputs, settings: Autoencoder) -> Trained:
    """Return a run's autoencoder, trained where none is kept.

    Raises:
        DataError: an input is missing or damaged, the model gives values that are not finite, or all units die.
        ParameterError: the model lacks the site, or `k` or `nested` does not fit the units.
    """
    site = _site(inputs, settings.site)
    if max([settings.k, *settings.nested]) > settings.units:
        field = "k" if settings.k > settings.units else "nested"
        raise ParameterError(f"{field} is more than the {settings.units} units", argument=field)
    home = inputs.cache / "autoencoders"
    with explain(home):
        home.mkdir(parents=True, exist_ok=True)
    name = digest_of(run=str(inputs.model_folder.resolve()), settings=_asked(settings))
    with alone(home / f"{name}.training.lock", "training the same sparse autoencoder"):
        stores = _training_stores(inputs, settings, site)
        key = {
            "stores": [store.folder.name for store in stores],  # a digest of weights, images, site and code
            "settings": _asked(settings),
            "code": code_digest("domix.analyses.sae.training", "domix.analyses.sae.files"),
            "torch": importlib.metadata.version("torch"),
        }

        def make(folder: Path) -> None:
            states = Store(home / "states" / digest_of(**key), code=str(key["code"]))
            save(_train(stores, site, settings, inputs.model.context.device, states), folder)
            states.clear()

        folder = Kept(home).open(key, make, what="sparse autoencoder")
    return Trained(inputs, settings, site, load(folder).to(inputs.model.context.device))


def _train(
    stores: list[ActivationStore], site: Site, settings: Autoencoder, device: str, states: Store
) -> SparseAutoencoder:
    autoencoder = SparseAutoencoder(
        stores[0].widths[site.name],
        settings.units,
        activation=settings.activation,
        k=settings.k,
        generator=torch_generator(settings.seed, "weights"),
    ).to(device)
    l1 = settings.l1 if settings.activation == "relu" else 0.0
    training = Training(autoencoder, lr=settings.lr, l1=l1, nested=settings.nested)
    small = settings.batch * autoencoder.channels * autoencoder.units < SMALL
    with threadpool_limits(1) if small else nullcontext():
        training.run(
            StoreFeed(stores, site.name, settings.batch, settings.seed, settings.unit_length),
            passes=settings.passes,
            resample_every=settings.resample_every,
            resample_from=settings.resample_from,
            seed=settings.seed,
            states=states,
        )
    return autoencoder


def _asked(settings: Autoencoder) -> dict[str, object]:
    """Return what of an analysis' settings decides the weights."""
    return settings.model_dump(include=set(Autoencoder.model_fields) - {"mixtures"})


def _site(inputs: RunInputs, name: str | None) -> Site:
    sites = {site.name: site for site in inputs.model.encoder.sites}
    if name is None:
        return list(sites.values())[-1]
    try:
        require_site(name, sites)
    except DataError as error:
        raise ParameterError(str(error), argument="site") from error
    return sites[name]


def _training_stores(inputs: RunInputs, settings: Autoencoder, site: Site) -> list[ActivationStore]:
    mixture = read_mixture(inputs.artifacts / "mixtures" / f"{inputs.run.mixture}.parquet")
    sources = [name for name in inputs.sources if name == inputs.sources[0] or name in mixture.samples]
    stores = []
    for source in sources:
        index = read_index(inputs.artifacts / "shards" / source)
        rows = index[index["split"] == "train"]
        if settings.images is not None and len(rows):
            rows = rows.iloc[draw_rows(rows["domain"].to_numpy(dtype=object), settings.images, seed=settings.seed)]
        if len(rows):
            rows = rows.reset_index(drop=True)
            stores.append(_store(inputs, source, rows, site.name, every_position(settings, site)))
    if not stores:
        raise DataError(f"none of {', '.join(sources)} has training images for a sparse autoencoder")
    return stores


def _store(inputs: RunInputs, source: str, rows: pd.DataFrame, site: str, every: bool) -> ActivationStore:
    return inputs.model.activations(source, rows, [site], every_position=every)
