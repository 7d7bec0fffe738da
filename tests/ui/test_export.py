"""Views in files: one page or picture that needs nothing else, does nothing, and is written whole."""

import re
import webbrowser
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import RenderableType
from rich.text import Text

from mygpt_cli.base.errors import ResourceError, UsageError
from mygpt_cli.ui.chart import Chart, Line, Panel
from mygpt_cli.ui.export import Export, Screen, to_html, to_svg, write_file
from mygpt_cli.ui.history import loss_chart, render_history
from mygpt_cli.ui.steps import render_step
from mygpt_cli.ui.summary import render_summary
from tests.helpers.screens import EVIL, SUMMARY, VIEW, Page, check_harmless, history

NAMESPACE = "{http://www.w3.org/2000/svg}"


def evil_parts() -> list[RenderableType]:
    bad = replace(history(), folder=EVIL, reason=EVIL, notes=(EVIL,))
    chart = Chart(EVIL, EVIL, 1.0, [Panel(EVIL, [Line(EVIL, [(0, 1)], kind="best")], 0.0, 1.0, (EVIL, 2.0))])
    return [*render_history(bad), chart, Text(EVIL), render_summary(replace(SUMMARY, folder=EVIL), 80)]


def test_a_page_stands_alone_and_does_nothing() -> None:
    text = to_html(EVIL, evil_parts(), 80)
    page = check_harmless(text)
    assert ("http-equiv", "Content-Security-Policy") in page.attributes
    assert "script-src 'none'" in page.policy
    assert text.index("Content-Security-Policy") < text.index("<title>") < text.index("<style>")
    assert "<script>alert(1)</script>" in page.text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffe]", text)


def test_pictures_stand_alone_and_do_nothing() -> None:
    for parts in (evil_parts(), [Text(EVIL)], [evil_parts()[-3]]):
        text = to_svg(EVIL, parts, 80)
        check_harmless(text)
        root = ET.fromstring(text)
        assert root.findtext(f"{NAMESPACE}title", "").startswith("<script>")


@given(st.text(max_size=40))
def test_any_text_is_well_formed_and_comes_back(text: str) -> None:
    root = ET.fromstring(to_svg(text, [Text(text)], 80))
    assert root.tag == f"{NAMESPACE}svg"
    check_harmless(to_html(text, [Text(text)], 80))


def test_the_chart_of_a_page_comes_before_its_tables() -> None:
    text = to_html("run", [*render_history(history()), render_summary(SUMMARY, 80)], 80)
    assert text.index("<svg") < text.index("token embedding")
    page = check_harmless(text)
    for shown in (
        "training, last 2.2000",
        "validation, last 2.9000",
        "best 1.2500 bits per byte at step 60",
        "0.004",
    ):
        assert shown in page.text
    assert "prefers-color-scheme: dark" in text
    assert "⠒" not in text


def test_a_picture_of_a_run_is_its_chart() -> None:
    root = ET.fromstring(to_svg("run", [*render_history(history()), render_summary(SUMMARY, 80)], 80))
    texts = [element.text or "" for element in root.iter(f"{NAMESPACE}text")]
    assert "loss, nats per token" in texts
    assert "bits per byte" in texts
    assert not any("token embedding" in text for text in texts)
    # Five validations, the best on top of them, and the two signs of the legend.
    assert len(list(root.iter(f"{NAMESPACE}circle"))) == 5 + 1 + 2
    size = [float(number) for number in root.attrib["viewBox"].split()]
    for element in root.iter(f"{NAMESPACE}circle"):
        assert size[0] <= float(element.attrib["cx"]) <= size[2]
        assert size[1] <= float(element.attrib["cy"]) <= size[3]


def test_a_long_run_makes_a_small_picture() -> None:
    one = history()
    many = tuple(replace(one.intervals[0], step=step) for step in range(1, 50_001))
    assert loss_chart(replace(one, intervals=many))
    assert len(to_svg("run", render_history(replace(one, intervals=many)), 80)) < 100_000


def test_a_title_is_plain(tmp_path: Path) -> None:
    with Screen("run-\u202eevil</title>", to=Export(tmp_path / "x.svg", tmp_path / "x.html")) as screen:
        screen.show(Text("x"))
    for name in ("x.svg", "x.html"):
        assert "<title>run-&lt;U+202E&gt;evil&lt;/title&gt;</title>" in (tmp_path / name).read_text(
            encoding="utf-8"
        )


@pytest.mark.parametrize("width", [60, 80, 100])
def test_a_screen_as_a_page_and_as_a_picture_keeps_its_shape(width: int) -> None:
    part = render_step(VIEW, width)
    page = Page(to_html("steps", [part], width))
    assert "    1 ␣a" in page.text
    root = ET.fromstring(to_svg("steps", [part], width))
    right = [
        float(element.attrib["x"]) + float(element.attrib["textLength"])
        for element in root.iter(f"{NAMESPACE}text")
    ]
    assert max(right) == pytest.approx(width * 8.4, abs=0.2)


def test_colours_follow_the_scheme_and_exact_ones_stay() -> None:
    text = Text.assemble(("a", "bold cyan"), ("b", "#123456 on red"), ("c", "reverse"), ("d", "dim italic"))
    page = to_html("x", [text], 60)
    assert '<span class="bold c0">a</span><span class="c1">b</span><span class="c2">c</span>' in page
    assert ".c0 { color: var(--cyan); fill: var(--cyan) }" in page
    assert ".c1 { color: #123456; fill: #123456; background: var(--red) }" in page
    assert ".c2 { color: var(--page); fill: var(--page); background: var(--ink) }" in page
    assert '<span class="italic dim">d</span>' in page


def test_files_are_written_when_the_view_is_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    svg, html = tmp_path / "a.svg", tmp_path / "a.html"
    html.write_text("before", encoding="utf-8")
    with pytest.raises(KeyboardInterrupt), Screen("x", to=Export(svg, html)) as screen:
        screen.show(Text("one"))
        raise KeyboardInterrupt
    assert (html.read_text(encoding="utf-8"), svg.exists()) == ("before", False)
    with Screen("x", to=Export(svg, html)) as screen:
        screen.show(Text("one"), Text("two"))
        screen.record({"three": 3})
    assert "two" in html.read_text(encoding="utf-8")
    assert "two" in svg.read_text(encoding="utf-8")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.html", "a.svg"]
    assert capsys.readouterr().out == "one\none\ntwo\n"
    with Screen("x", json=True, to=Export(html=html)) as screen:
        screen.show(Text("four"))
        screen.record({"three": 3})
    assert capsys.readouterr().out == '{"three": 3}\n'
    assert "four" in html.read_text(encoding="utf-8")


def test_files_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    for path in (tmp_path / "none" / "a.html", tmp_path / "file" / "a.html", tmp_path, Path("/dev/null")):
        with pytest.raises(ResourceError, match="cannot write"):
            Export(html=path)
    (tmp_path / "x").mkdir()
    with pytest.raises(UsageError, match="both name"):
        Export(tmp_path / "a", tmp_path / "x" / ".." / "a")

    old = tmp_path / "old.html"
    old.write_text("before", encoding="utf-8")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ResourceError, match="No space left"):
        write_file(old, "after")
    assert old.read_text(encoding="utf-8") == "before"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "old.html", "x"]


def test_a_name_promises_nothing_else(tmp_path: Path) -> None:
    for svg, html in (("a.svg", "a.html"), ("A.SVG", "a.HTM"), ("curves", "page")):
        assert Export(tmp_path / svg, tmp_path / html)
    with pytest.raises(UsageError) as caught:
        Export(svg=Path("curves.png"))
    assert caught.value.message == "--svg writes .svg files, not .png: use --svg curves.svg"
    with pytest.raises(UsageError) as caught:
        Export(svg=Path("x.html"), html=Path("a b.svg"))
    assert caught.value.faults[1] == "--html writes .html or .htm files, not .svg: use --html 'a b.html'"


def test_a_link_keeps_leading_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.html"
    link.symlink_to(tmp_path / "real" / "a.html")
    write_file(link, "x")
    assert link.is_symlink()
    assert (tmp_path / "real" / "a.html").read_text(encoding="utf-8") == "x"


def test_a_page_opens_in_the_browser_or_says_where_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def opens(url: str) -> bool:
        shown.append(url)
        return True

    monkeypatch.setattr("webbrowser.open", opens)
    with Screen("x", json=True, to=Export(open=True)) as screen:
        screen.show(Text("one"))
    (page,) = tmp_path.iterdir()
    assert shown == [page.as_uri()]
    assert "one" in check_harmless(page.read_text(encoding="utf-8")).text
    assert page.stat().st_mode & 0o077 == 0

    def none(url: str) -> bool:
        raise webbrowser.Error("could not locate runnable browser")

    for answer in (none, lambda url: False):
        monkeypatch.setattr("webbrowser.open", answer)
        with Screen("x", to=Export(html=tmp_path / "a.html", open=True)) as screen:
            screen.show(Text("one"))
        assert "no browser was found" in capsys.readouterr().err
    assert len(list(tmp_path.iterdir())) == 2
