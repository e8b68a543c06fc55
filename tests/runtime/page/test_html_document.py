import base64
import hashlib
import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stale_runtime.page.html_document import element, html_document, markup
from tests.page.html_reader import HtmlReader


def policy(text: str) -> dict[str, list[str]]:
    content = next(attrs["content"] for tag, attrs in HtmlReader(text).elements if "http-equiv" in attrs)
    assert content is not None
    return {words[0]: words[1:] for words in map(str.split, content.split(";"))}


def embedded(text: str) -> object:
    return json.loads(text.split('id="data">')[1].split("</script>")[0])


TEXT = st.text(st.characters(exclude_characters="\r\0"), max_size=30) | st.sampled_from(
    ["</script>", "<!--", "]]>", "&lt;"]
)


@given(TEXT, TEXT)
def test_text_in_elements_and_attributes_stays_text(text: str, value: str) -> None:
    reader = HtmlReader(
        markup(element("p", text, element("b", value), text, title=value, class_="x"))
        .encode("utf-8", "replace")
        .decode()
    )
    assert reader.tags == ["p", "b"]
    assert "".join(reader.texts) == (text + value + text).encode("utf-8", "replace").decode()
    assert reader.elements[0][1] == {"title": value.encode("utf-8", "replace").decode(), "class": "x"}


@given(st.dictionaries(TEXT, TEXT))
def test_data_come_back_and_open_no_element(data: dict[str, str]) -> None:
    text = html_document(title="t", body="", data=data)
    assert embedded(text) == json.loads(json.dumps(data, ensure_ascii=False).encode("utf-8", "replace"))
    assert HtmlReader(text).tags.count("script") == 1


@given(TEXT)
def test_a_title_opens_no_element(title: str) -> None:
    text = html_document(title=title, body="")
    assert {*HtmlReader(text).tags} == {"html", "head", "meta", "link", "title", "style", "body"}
    text.encode()


def test_only_our_own_scripts_and_styles_may_run() -> None:
    text = html_document(title="t", body="<p></p>", styles=["p {}"], scripts=["one()", "two('ä')"])
    rules = policy(text)
    sources = [
        f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in ("one()", "two('ä')")
    ]
    assert rules["script-src"] == sources
    assert len(rules["style-src"]) == len(re.findall("<style>", text)) == 2
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == rules["media-src"] == ["'none'"]
    assert rules["img-src"] == ["data:"]
    assert policy(html_document(title="t", body=""))["script-src"] == ["'none'"]
    assert policy(html_document(title="t", body="", plays_media=True))["media-src"] == ["'self'", "file:"]


def test_the_policy_comes_before_all_that_it_governs() -> None:
    text = html_document(title="t", body="", scripts=["s"])
    assert text.index("Content-Security-Policy") < text.index("<link") < text.index("<style") < text.index("<script")


def test_a_script_that_would_end_early_is_refused() -> None:
    with pytest.raises(ValueError, match="a script contains </script"):
        html_document(title="t", body="", scripts=["'</SCRIPT>'"])


def test_numbers_that_json_does_not_have_are_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        html_document(title="t", body="", data=[math.nan])
