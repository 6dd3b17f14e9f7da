"""Templates that lie beside an analysis' section."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from domix.runtime.wording import listed, percent, plain


def render(package: str, template: str, context: Mapping[str, Any]) -> Markup:
    """Fill in a template of the analysis `package`, which escapes what it is given."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(package, "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "plain": plain,
        "thousands": lambda number: f"{int(number):,}",
        "listed": listed,
    }
    environment.tests |= {"nan": lambda value: bool(np.isnan(value))}
    return Markup(environment.get_template(template).render(context))
