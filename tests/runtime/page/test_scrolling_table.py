from stale_runtime.page.html_document import element, markup
from stale_runtime.page.scrolling_table import scrolling_table


def test_text_is_on_the_left_and_numbers_are_marked() -> None:
    table = markup(scrolling_table("What <b>", ("name", "kind", "%"), [("a", element("a", "link"), "1.5")], left=2))
    assert "<caption>What &lt;b&gt;</caption>" in table
    assert '<th scope="row">a</th><td class=""><a>link</a></td><td class="number">1.5</td>' in table
    assert '<th scope="col" class="">kind</th><th scope="col" class="number">%</th>' in table


def test_the_keyboard_can_scroll_it_and_a_column_without_a_name_is_no_header() -> None:
    table = markup(scrolling_table("caption", ("name", ""), [("a", "b")]))
    assert '<div class="scroll" role="region" tabindex="0" aria-label="caption">' in table
    assert '<th scope="col" class="">name</th><td></td>' in table
