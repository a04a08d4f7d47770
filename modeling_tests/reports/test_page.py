"""Pages: escaping, their policy, their tables, where they are written."""

import base64
import hashlib
import re

import pytest
from jinja2 import DictLoader, UndefinedError

from fal_hf.reports import page
from fal_hf.reports.page import check_page, data_uri, percent, write_page

TEMPLATE = """{% extends "page.html" %}{% block title %}{{ name }}{% endblock %}
{% block content %}<p title="{{ name }}">{{ name }}</p>{% endblock %}"""


@pytest.fixture
def template(monkeypatch):
    """A template of its own beside those there are."""
    environment = page._environment()
    files = {"small.html": TEMPLATE, "page.html": (page.TEMPLATES / "page.html").read_text(encoding="utf-8")}
    monkeypatch.setattr(environment, "loader", DictLoader(files))
    monkeypatch.setattr(environment, "cache", {})
    return "small.html"


def test_what_is_put_into_a_page_is_escaped(template, tmp_path):
    write_page(tmp_path / "new" / "page.html", template, name="<script>\"alert('&')")
    text = (tmp_path / "new" / "page.html").read_text(encoding="utf-8")
    assert text.count("&lt;script&gt;&#34;alert(&#39;&amp;&#39;)") == 3 and text.count("<script>") == 1


def test_bytes_that_are_no_text_are_written_escaped(template, tmp_path):
    write_page(tmp_path / "page.html", template, name="clip-\udcff")
    assert "clip-\\udcff" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_what_a_template_names_and_nobody_gives_is_an_error_and_leaves_the_page(template, tmp_path):
    (tmp_path / "page.html").write_text("before")
    with pytest.raises(UndefinedError):
        write_page(tmp_path / "page.html", template)
    assert (tmp_path / "page.html").read_text() == "before"


def test_a_page_allows_its_own_script_alone_and_nothing_from_elsewhere(template, tmp_path):
    write_page(tmp_path / "page.html", template, name="a")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    (script,) = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', text)
    assert f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in policy
    assert not re.search(r"https?://|src=\"(?!data:)|url\(", text)


@pytest.mark.parametrize("name", ["page", "page.pdf", ".html", "folder.html"])
def test_paths_of_no_page_are_refused(tmp_path, name):
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(ValueError, match=r"expected a file that ends in \.html or \.htm"):
        check_page(tmp_path / name)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="expected a folder"):
        check_page(tmp_path / "file" / "page.html")
    check_page(tmp_path / "new" / "page.HTML")


def test_a_picture_and_a_share_as_text():
    assert base64.b64decode(data_uri(b"\xff\xd8").removeprefix("data:image/jpeg;base64,")) == b"\xff\xd8"
    assert percent(0.12345) == "12.3\N{NO-BREAK SPACE}%"
