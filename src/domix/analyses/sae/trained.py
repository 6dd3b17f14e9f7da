"""The sparse autoencoder of a run: trained once for all analyses that ask for it, and kept by what it hangs on.

<cache>/autoencoders/<digest>/     weights (domix.analyses.sae.files)
<cache>/autoencoders/states/       where a training that was cut short goes on

It learns from the training images of the multi-domain source and of the corpora in the run's mixture, whatever that
shows of them, as the reference study's do, so that the runs' autoencoders have seen the same images. Test images it
sees when it is measured.

Shapes: N images, C channels, F units.
"""

from __future__ import annotations

import importlib.metadata
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from domix.activations.store import ActivationStore
from domix.analyses.sae.autoencoder import SparseAutoencoder
from domix.analyses.sae.files import load, save
from domix.analyses.sae.settings import Autoencoder
from domix.analyses.sae.training import StoreFeed, Training, unit_rows
from domix.analyses.sampling import draw_rows
from domix.data.mixtures.mixture import read_mixture
from domix.data.store.index import read_index
from domix.encoders.sites import Site, require_site
from domix.runtime.arrays import BLOCK
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

    @cached_property
    def activations(self) -> NDArray[np.float32]:
        """The test images' activations as the autoencoder reads them, [N, C].

        Raises:
            DataError: an image cannot be read, or an activation is not finite.
        """
        if self.settings.unit_length and self.site == self.inputs.model.encoder.sites[-1]:
            return self.inputs.embeddings.image_embeddings  # are just that
        store = _store(self.inputs, self.inputs.sources[0], self.rows, self.site.name)
        found = np.concatenate([shard.astype(np.float32) for shard in store.rows(self.site.name)])
        return unit_rows(found) if self.settings.unit_length else found

    @cached_property
    def codes(self) -> NDArray[np.float32]:
        """The units' values of the test images, [N, F]."""
        return encode(self.autoencoder, self.activations)


@torch.inference_mode()
def encode(autoencoder: SparseAutoencoder, activations: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the units' values [N, F] of activations [N, C]."""
    autoencoder.eval()
    device = autoencoder.tied_bias.device
    codes = np.empty((len(activations), autoencoder.units), np.float32)
    for start in range(0, len(activations), BLOCK):
        part = torch.from_numpy(np.ascontiguousarray(activations[start : start + BLOCK])).to(device)
        codes[start : start + BLOCK] = autoencoder.encode(part).cpu().numpy()
    return codes


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
        stores = _training_stores(inputs, settings, site.name)
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


def _training_stores(inputs: RunInputs, settings: Autoencoder, site: str) -> list[ActivationStore]:
    mixture = read_mixture(inputs.artifacts / "mixtures" / f"{inputs.run.mixture}.parquet")
    sources = [name for name in inputs.sources if name == inputs.sources[0] or name in mixture.samples]
    stores = []
    for source in sources:
        index = read_index(inputs.artifacts / "shards" / source)
        rows = index[index["split"] == "train"]
        if settings.images is not None and len(rows):
            rows = rows.iloc[draw_rows(rows["domain"].to_numpy(dtype=object), settings.images, seed=settings.seed)]
        if len(rows):
            stores.append(_store(inputs, source, rows.reset_index(drop=True), site))
    if not stores:
        raise DataError(f"none of {', '.join(sources)} has training images for a sparse autoencoder")
    return stores


def _store(inputs: RunInputs, source: str, rows: pd.DataFrame, site: str) -> ActivationStore:
    return inputs.model.activations(source, rows, [site])
