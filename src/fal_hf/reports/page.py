"""
Pages that are one file: they open from a disk without a network, in light and dark, on a phone and on paper.

A template in `templates` extends `page.html`. All that is put into one is escaped, and the page runs no script but its
own: where that were not enough, its policy of contents refuses others.
"""

import base64
import hashlib
import os
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ..labeling.label_files import check_folder, whole_file

TEMPLATES = Path(__file__).with_name("templates")
SUFFIXES = (".html", ".htm")


def check_page(path: str | os.PathLike) -> None:
    """Refuses, by a ValueError, a path that no page can be written to."""
    if Path(path).suffix.lower() not in SUFFIXES or Path(path).is_dir():
        raise ValueError(f"{os.fspath(path)}: expected a file that ends in {' or '.join(SUFFIXES)}")
    check_folder(Path(path).parent)


def write_page(path: str | os.PathLike, template: str, *, script: str = "sort_tables.js", **values: Any) -> None:
    """
    Writes a page.

    Args:
        path: The file; its folder is made where it is missing.
        template: The name of a file in `templates`.
        script: The name of another, the only script that runs in the page.
        values: What the template names. Texts are escaped; bytes of a name that are no UTF-8 are written as `\\udcff`.

    Raises:
        OSError: the file cannot be written; what was there before still is.
    """
    code = (TEMPLATES / script).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode("ascii")
    page = _environment().get_template(template).render(**values, script=Markup(code), script_hash=f"sha256-{digest}")
    with whole_file(Path(path)) as file:
        file.write(page)


def data_uri(data: bytes, media_type: str = "image/jpeg") -> str:
    """A picture as an address that holds it."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    return environment


def percent(share: float) -> str:
    """0.1234 as 12.3 %."""
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


__all__ = ["check_page", "data_uri", "percent", "write_page"]
