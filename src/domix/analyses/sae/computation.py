"""The tables of one run: how good its autoencoder is, what its units answer to, and what the browser shows of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from domix.analyses.sae.names import embed_words, name_units, vocabulary
from domix.analyses.sae.quality import measure
from domix.analyses.sae.settings import Settings
from domix.analyses.sae.trained import Trained, train_for
from domix.analyses.sae.units import choose, describe, histograms, top_images

if TYPE_CHECKING:
    from domix.analyses.contract import RunInputs


def run(inputs: RunInputs, settings: Settings) -> dict[str, pd.DataFrame]:
    """Train a run's autoencoder, or find it, and describe it on the test images.

    Raises:
        DataError: an input is missing or damaged, values are not finite, or all units are dead.
        ParameterError: a setting does not fit the model.
    """
    trained = train_for(inputs, settings)
    whole, by_domain = measure(trained)
    embeddings = inputs.embeddings
    names = list(embeddings.domains)
    domain = np.array([names.index(name) for name in embeddings.rows["domain"]])
    label = embeddings.rows["label"].to_numpy()
    units = describe(trained.codes, domain, label, names, embeddings.classes)
    units = units.assign(**_names(trained, settings, embeddings.classes, names))
    test_first = sorted(names, key=lambda name: name != inputs.study.test_domain)
    chosen = choose(units, settings.browsed, test_first, len(label))
    top = top_images(trained.codes, domain, names, chosen, settings.top)
    images = top.pop("image").to_numpy()
    top["row"] = embeddings.rows["row"].to_numpy()[images]
    top["class"] = embeddings.rows["class"].to_numpy(dtype=object)[images]
    counts = histograms(trained.codes, domain, names, chosen, settings.bins)
    return {"quality": whole, "domains": by_domain, "units": units, "images": top, "histograms": counts}


def _names(trained: Trained, settings: Settings, classes: list[str], domains: list[str]) -> dict[str, object]:
    """Return columns word and cosine; none where units are no directions of the embedding."""
    inputs, autoencoder = trained.inputs, trained.autoencoder
    if trained.site.name != inputs.model.encoder.sites[-1].name:
        return {"word": pd.Series([None] * autoencoder.units, dtype="str"), "cosine": np.nan}
    words = vocabulary(classes, domains)
    texts = embed_words(inputs.model_folder, words, settings.template, device=inputs.model.context.device)
    word, cosine = name_units(autoencoder.decoder_weight.detach().cpu().numpy(), texts, words)
    return {"word": word, "cosine": cosine}
