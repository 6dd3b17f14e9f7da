"""Keys to figures: what stands for what, as HTML lists in the page's own classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup

from domix.figures.look import SERIES, domain_slots
from domix.study import Study

ENTRY = Markup('<li><i style="background:var(--d{slot})"></i> {name}</li>')


def domain_key(study: Study) -> Markup:
    """Return the key of figures whose colours are `Look.domain_colours`."""
    slots = domain_slots(study.domains, study.test_domain, study.natural_domain)
    names = {domain: f"{domain} (tested)" if domain == study.test_domain else domain for domain in slots}
    return _listed(ENTRY.format(slot=slot, name=names[domain]) for domain, slot in slots.items())


def series_key(names: Sequence[str], more: str = "") -> Markup:
    """Return the key of figures whose colours are a look's `series` in the order of `names`, then `more` entries."""
    return _listed([*(ENTRY.format(slot=place % SERIES, name=name) for place, name in enumerate(names)), more])


def _listed(entries: Iterable[str]) -> Markup:
    return Markup('<ul class="key">{}</ul>').format(Markup("").join(entries))
