"""The sentences from which CLIP's text tower makes a classifier.

The set `clip` is the study's: OpenAI's 80 ImageNet templates in open_clip's order, and six that name the domains which
those 80 leave out. `domain-only` keeps those of it that name a domain of drawings, as the reference study's option
`--domain_invariant` does, and `domain-free` keeps the others, as that option's name says. `plp` are the five of PLP
("Adapting CLIP Models for Out-of-Distribution Detection", TMLR 2024).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from domix.runtime.errors import ParameterError

Template = Callable[[str], str]

DOMAINS = ("clipart", "infograph", "painting", "quickdraw", "sketch")
DOMAIN_TEMPLATES = (
    "a clipart of the {}.",
    "a clipart of a {}.",
    "an infograph of the {}.",
    "an infograph of a {}.",
    "a quickdraw of the {}.",
    "a quickdraw of a {}.",
)
PLP_TEMPLATES = (
    "a photo of a {}.",
    "a blurry photo of a {}.",
    "a photo of many {}.",
    "a photo of the large {}.",
    "a photo of the small {}.",
)
SETS = ("clip", "openai", "domain-only", "domain-free", "plp")


def templates(spec: str | Sequence[str]) -> list[Template]:
    """Return the templates that `spec` asks for.

    `spec` is a set's name (clip: 86 templates, openai: 80, domain-only: 10, domain-free: 76, plp: 5), or one sentence
    with {} where the class stands, or several.

    Raises:
        ParameterError: `spec` is none of these.
    """
    if spec in SETS:
        return _named(str(spec))
    sentences = [spec] if isinstance(spec, str) else spec
    if not sentences:
        raise ParameterError("templates is empty: name a set of templates, or sentences with {}", argument="templates")
    for text in sentences:
        if "{}" not in text:
            raise ParameterError(
                f"templates must be one of {', '.join(SETS)}, or sentences with {{}} for the class, not {text!r}",
                argument="templates",
            )
    return [_fill(text) for text in sentences]


def render_prompts(spec: str | Sequence[str], class_texts: list[str]) -> list[list[str]]:
    """Put every class text into every template: K lists, one a class, of T prompts each.

    Raises:
        ParameterError: `spec` names no templates.
    """
    chosen = templates(spec)
    return [[template(text) for template in chosen] for text in class_texts]


def _named(name: str) -> list[Template]:
    if name == "plp":
        return [_fill(text) for text in PLP_TEMPLATES]
    from open_clip import OPENAI_IMAGENET_TEMPLATES  # here: it brings torch, which most stages do without

    if name == "openai":
        return list(OPENAI_IMAGENET_TEMPLATES)
    every = [*OPENAI_IMAGENET_TEMPLATES, *(_fill(text) for text in DOMAIN_TEMPLATES)]
    if name == "clip":
        return every
    return [template for template in every if _names_domain(template) == (name == "domain-only")]


def _names_domain(template: Template) -> bool:
    sentence = template("")
    return any(domain in sentence for domain in DOMAINS)


def _fill(text: str) -> Template:
    # replace, not str.format: a user's template may hold other braces
    return lambda class_text: text.replace("{}", class_text)
