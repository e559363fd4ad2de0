from __future__ import annotations

import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from MLTools.NanoML.report import page as module
from MLTools.NanoML.report.page import Answer, Site, figure, page, percentage, state_of, stem_of, table, verdict_list
from MLTools.NanoML.report.section import PRIVATE_WORK, Block, Caption, Document


def test_states_follow_from_limits() -> None:
    assert [state_of(value, (0.1, 0.3)) for value in (0.1, 0.2, 0.4)] == ["good", "look", "bad"]
    assert [state_of(value, (0.05, 0.01)) for value in (0.05, 0.02, 0.001)] == ["good", "look", "bad"]


def test_text_is_no_html() -> None:
    assert "<main>\n<h1>a &lt; b</h1>\n<p>" in page("a < b", ["<p>as it is</p>"])
    assert "pT &gt; 5" in table(["pT > 5"], [["<1"]])
    assert "<td>&lt;1</td>" in table(["pT > 5"], [["<1"]])
    assert '<table class="facts"><tbody>' in table(["", ""], [["a", "b"]])  # without titles
    assert "Is 1 &lt; 2?" in verdict_list([Answer("Is 1 < 2?", "good", "Yes.")])


class _Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, list[str]]] = []
        self.ids, self.targets = set[str](), set[str]()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, [name for name, _ in attrs]))
        self.ids |= {value or "" for name, value in attrs if name == "id"}
        self.targets |= {unquote(value[1:]) for name, value in attrs if name == "href" and value and value[0] == "#"}


@given(st.text(min_size=1) | st.sampled_from(['a" onerror="a"><img src=x', "a/b", "../a", "</style><script>", "%2f"]))
def test_a_name_is_a_name_wherever_it_is_on_a_page(name: str) -> None:
    def tags(it: str) -> _Tags:
        blocks = [Block(it, it, table([it, it], [[it, it]]), [(stem_of(it), Caption(it, it, it))])]
        answers = [Answer(it, "bad", it, f"#{it}"), Answer(it, "look", it, f"b/{it}")]
        site = Site(it, ((it, "a.html"), ("b", "b.html")))
        return _Tags(Document(it, "b.html", "", answers, blocks, [it]).html(replace(PRIVATE_WORK, site=site), None))

    found, harmless = tags(name), tags("harmless")
    assert [it for it in found.found if it[0] not in ("code", "sup", "details", "summary")][:12] == harmless.found[:12]
    assert {it[0] for it in found.found} <= {*(it[0] for it in harmless.found), "code", "sup", "details", "summary"}
    assert {tuple(it[1]) for it in found.found} <= {*(tuple(it[1]) for it in harmless.found), ("class",)}
    assert len(found.ids) == 1
    assert found.targets == found.ids
    assert "/" not in stem_of(name)
    assert stem_of(name)[:2] != ".."
    assert len(stem_of(name)) < 150


def test_places_of_names_differ() -> None:
    names = ["a/b", "a%2fb", "a b", "a_b", "a" * 300, "a" * 301]
    assert len({*map(stem_of, names)}) == len(names)


@pytest.mark.parametrize(
    ("html", "shown"),
    [
        ("<p>-0.2 and (-1), +0.29 -0.20</p>", "<p>\u22120.2 and (\u22121), +0.29 \u22120.20</p>"),
        *(("2026-11-29, WZ-2018, x-1", "2026-11-29, WZ-2018, x-1"), ("30.2%, 3.3 ± 1.0 %", "30.2 %, 3.3 ± 1.0 %")),
        ("1e-05, 2.5e+12 and abc1e-05", "1 &times; 10<sup>\u22125</sup>, 2.5 &times; 10<sup>12</sup> and abc1e-05"),
        ("after `nanoml run --at -1`", "after <code>nanoml run --at -1</code>"),
        ('<a href="-1 10%">a</a><style>a { width: 10%; }</style>', '<a href="-1 10%">a</a><style>a { width: 10%; }</style>'),
    ],
)  # fmt: skip
def test_numbers_and_code_are_set_as_such_outside_of_tags(html: str, shown: str) -> None:
    assert module.typeset(html) == shown


def test_answers_stand_by_severity_with_one_sentence_each() -> None:
    answers = [Answer("A?", "good", "0.5 is fine."), Answer("B?", "bad", "It is 3.5. That is bad. Why?", "#b")]
    text = verdict_list(answers, {"#b": "Section B"})
    assert text.index("B?") < text.index("A?")
    assert '<b>B?</b> It is 3.5. <a href="#b">Section B</a><details' in text
    assert "<p>That is bad. Why?</p></details>" in text
    assert text.count("<details") == 1


def test_pages_link_to_each_other() -> None:
    site = Site("wz", (("Analysis", "index.html"), ("Training", "training/report.html"), ("Fit", "fit/report.html")))
    text = page("A", [], site, "fit/M600/report.html")
    assert '<a href="../../index.html">Analysis</a><a href="../../training/report.html">Training</a>' in text
    assert '<a href="report.html" aria-current="page">Fit</a>' in page("A", [], site, "fit/report.html")
    assert "<header>" not in page("A", [])


def test_a_page_contains_its_figures(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"png")
    text = figure("a", tmp_path, "A", "wide", "<p>Text</p>")
    assert 'src="data:image/png;base64,cG5n"' in text
    assert "<figcaption><p>Text</p></figcaption>" in text
    assert '<a href="a.pdf"><img alt="A" class="wide" src="a.png"></a>' in figure("a", None, "A", "wide")


def test_what_is_triggered_is_said_at_its_figure(tmp_path: Path) -> None:
    blocks = [Block("roc", "ROC curve", "<p>1</p>"), Block("loss", "Loss", "")]
    answers = [
        Answer("A?", "bad", "Bad. Very.", "#roc"),
        Answer("B?", "good", "Fine.", "#loss"),
        Answer("C?", "look", "So.", "#no"),
    ]
    text = Document("Report", "a/b.html", "<p>lead</p>", answers, blocks).html(PRIVATE_WORK, tmp_path)
    assert '<h2>ROC curve</h2><p class="alarm"><b>A?</b> Bad. Very.</p>' in text
    assert text.count('class="alarm"') + text.count('class="care"') == 1
    assert 'href="#no"' not in text
    assert text.count('href="#roc"') == 2  # in the answer and in the contents


def test_numbers_have_no_powers_of_ten_that_a_comma_can_tell() -> None:
    numbers = ((0.01234, 2), (123.4, 2), (99.6, 2), (12345.6, 4), (2.0, 3), (-2.1e6, 3))
    found = [module.digits(*each) for each in numbers]
    assert found == ["0.012", "123", "100", "12,346", "2", "-2,100,000"]
    assert (percentage(0.0331, 0.0104), percentage(0.301)) == ("3.3 ± 1.0 %", "30.1 %")


def test_a_value_ends_where_its_largest_error_ends() -> None:
    for number, text in (
        *(((69.94, 18), "70 ± 18"), ((1, 0.4), "1.00 ± 0.40"), ((1.23456, 0.0321), "1.235 ± 0.032")),
        *(((0.9349, 0.0996), "0.93 ± 0.10"), ((6858.41, 1129.8), "6,858 ± 1,130"), ((-0.004, 1.0), "0.0 ± 1.0")),
        *(((2.0, 0.0), "2 ± 0"), ((2.0, math.nan), "2 ± nan")),
        *(((374.26, 22.4, 8.6), "374 ± 22 ± 9"), ((157.5, 3.97, 5.24), "157.5 ± 4.0 ± 5.2")),
    ):
        assert module.with_error(*number) == text


def _luminance(color: str) -> float:
    """As WCAG 2 defines it."""
    color = color[1:] if len(color) == 7 else "".join(2 * it for it in color[1:])
    parts = [int(color[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (it / 12.92 if it <= 0.04045 else ((it + 0.055) / 1.055) ** 2.4 for it in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", [0, 1])
def test_all_text_has_contrast(theme: int) -> None:
    colors = dict(re.findall(r"--(\w+): (#\w+)", re.findall(r":root \{(.*?)\}", page("A", []), re.DOTALL)[theme]))
    for text in ("text", "dim", "link", "alarm", "care"):
        for behind in ("back", "soft", "note"):
            light, dark = sorted((_luminance(colors[it]) for it in (text, behind)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, behind)


def test_wide_tables_break_lists_or_show_that_they_go_on() -> None:
    html = table(["process", "datasets", "events"], [["WZ, ZZ", "WZ_2018, WZ_2022", "422 ± 23 ± 10"]])
    assert '<td>WZ, ZZ</td><td class="long">WZ_2018, WZ_2022</td><td>422 ± 23 ± 10</td>' in html
    assert "<td>a, b</td>" in table(["", ""], [["files", "a, b"]])  # which breaks in any case
    style = page("", [html]).partition("</style>")[0]
    assert ".numbers .long { white-space: normal;" in style
    assert re.search(r"\.scroll \{ overflow-x: auto;[^}]* local,[^}]*var\(--shade\)", style)


def test_formulae_of_labels_as_plain_text() -> None:
    labels = [
        *(r"$Z\gamma$ & $t\bar{t}$", r"$W^{\pm}\to\ell\,\nu$", r"$\mathrm{t\overline{t}}Z$", "5 $ or a_b", "$W'(600)$")
    ]
    plain = ["Z\u03b3 & tt\u0304", "W±→\u2113\u03bd", "tt\u0304Z", "5 $ or a_b", "W'(600)"]
    assert [module.without_tex(it) for it in labels] == plain
