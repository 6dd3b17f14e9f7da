"""The parameters of evaluation (moved to domix.embed.settings and domix.evaluate.settings)."""

from domix.embed.settings import TEMPLATE_SETS, Embed, PublicModel
from domix.evaluate.settings import Evaluate

__all__ = ["TEMPLATE_SETS", "Embed", "Evaluate", "PublicModel"]
