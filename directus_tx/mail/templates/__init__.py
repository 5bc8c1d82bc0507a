"""Renders the templates of mails. NAME.html and NAME.txt of the directory projects/KEY.mail in the data directory replace those of this
package; plugins can have templates between the two; a template that has no NAME.html is sent as plain text only."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen
from jinja2 import ChoiceLoader, FileSystemLoader, PackageLoader, TemplateError, TemplateNotFound
from jinja2.sandbox import ImmutableSandboxedEnvironment

from directus_tx.context import Context
from directus_tx.errors import InternalError

_BUILT_IN = PackageLoader("directus_tx.mail", "templates")


@frozen
class Rendered:
    """The contents of a mail. `html` is None if the template has no HTML."""

    text: str
    html: str | None


def render(directories: Sequence[pathlib.Path], ctx: Context, name: str, data: Mapping[str, Any]) -> Rendered:
    """Renders a template with *data*, and with `project`: its `name`, `color` and `url` from the settings. *directories* have the templates
    of the project and of plugins; the first one that has a template counts. Raises InternalError if such a template is wrong; its cause
    says what is wrong."""
    environment = ImmutableSandboxedEnvironment(
        loader=ChoiceLoader([FileSystemLoader(list(directories)), _BUILT_IN]),
        autoescape=lambda file: file is not None and file.endswith(".html"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    values = {"project": _project(ctx), **data}
    try:
        text = environment.get_template(f"{name}.txt").render(values)
        try:
            page = environment.get_template(f"{name}.html")
        except TemplateNotFound:
            return Rendered(text, None)
        return Rendered(text, page.render(values))
    except (TemplateError, OSError, UnicodeError) as error:
        raise InternalError from error


def _project(ctx: Context) -> Mapping[str, str]:
    return {
        "name": ctx.schema.setting("project_name") or ctx.project,
        "color": ctx.schema.setting("project_color", "#263238"),
        "url": ctx.schema.setting("project_url"),
    }
