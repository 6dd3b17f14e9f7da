"""The sentences from which CLIP's text tower makes a classifier.

The set `clip` is the study's: OpenAI's 80 ImageNet templates in open_clip's order, and six that name the domains which
those 80 leave out.
"""

from __future__ import annotations

from collections.abc import Callable

from domix.runtime.errors import ParameterError

Template = Callable[[str], str]

DOMAIN_TEMPLATES = (
    "a clipart of the {}.",
    "a clipart of a {}.",
    "an infograph of the {}.",
    "an infograph of a {}.",
    "a quickdraw of the {}.",
    "a quickdraw of a {}.",
)


def templates(spec: str) -> list[Template]:
    """Return the templates that `spec` asks for: `clip` (86 of them), or one sentence with {} where the class stands.

    Raises:
        ParameterError: `spec` is neither.
    """
    if spec == "clip":
        from open_clip import OPENAI_IMAGENET_TEMPLATES  # here: it brings torch, which most stages do without

        return [*OPENAI_IMAGENET_TEMPLATES, *(_fill(text) for text in DOMAIN_TEMPLATES)]
    if "{}" not in spec:
        raise ParameterError(f"embed.templates must be 'clip' or one template with {{}} for the class, not {spec!r}")
    return [_fill(spec)]


def render_prompts(spec: str, class_texts: list[str]) -> list[list[str]]:
    """Put every class text into every template: K lists, one a class, of T prompts each.

    Raises:
        ParameterError: `spec` names no templates.
    """
    chosen = templates(spec)
    return [[template(text) for template in chosen] for text in class_texts]


def _fill(text: str) -> Template:
    # replace, not str.format: a user's template may hold other braces
    return lambda class_text: text.replace("{}", class_text)
