"""The parameters of the pipeline (moved to domix.settings and to the settings of each part)."""

from domix.data.captions_settings import Captions
from domix.data.fetch_settings import Fetch
from domix.data.mixtures_settings import Mixing, RecipeSpec
from domix.data.pack_settings import Pack
from domix.embed.settings import Embed, PublicModel
from domix.evaluate.settings import Evaluate
from domix.model.settings import Model
from domix.report.settings import Report
from domix.runtime.tracking_settings import Tracking
from domix.settings.load import load
from domix.settings.params import Params
from domix.train.settings import Supervised, Train, Trainer, Validation

__all__ = [
    "Captions",
    "Embed",
    "Evaluate",
    "Fetch",
    "Mixing",
    "Model",
    "Pack",
    "Params",
    "PublicModel",
    "RecipeSpec",
    "Report",
    "Supervised",
    "Tracking",
    "Train",
    "Trainer",
    "Validation",
    "load",
]
