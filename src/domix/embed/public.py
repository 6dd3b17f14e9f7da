"""Models that were not trained here as subjects of `embed_clip`."""

from __future__ import annotations

from pathlib import Path

from domix.embed.clip import ClipSubject
from domix.encoders import hf
from domix.encoders.hub import Caches
from domix.encoders.public import load_public
from domix.model.clip import tokenizer
from domix.runtime.files import sha256_file


def open_public(weights: str, architecture: str | None = None, *, caches: Caches | None = None) -> ClipSubject:
    """Return the model that `weights` and `architecture` name (see domix.encoders.public).

    Raises:
        ParameterError: they name nothing.
        DataError: the weights are absent, damaged or unsafe to read, or the model cannot be evaluated here.
    """
    found = load_public(weights, architecture, caches=caches)
    about = found.config
    if found.converted:  # then the weights are not quite those of the file: what is kept of them hangs on the converter
        about = about | {"converted_by": sha256_file(Path(str(hf.__file__)))}
    return ClipSubject(found.model, tokenizer(found.config), about, sha256_file(found.file), found.preprocess)
