"""The guided tour: its twelve screens and three more, at every width, and the way through them."""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.cells import cell_len
from rich.console import Console

from mygpt_cli.backends.reference import ReferenceDecoder
from mygpt_cli.cli.app import run
from mygpt_cli.generation.stream import Prompt
from mygpt_cli.inspection.tour import BEAMS, TEMPERATURES, TOP_K, TOP_P, Tour, take_tour
from mygpt_cli.tokens.tokenizer_training import train_tokenizer
from mygpt_cli.ui import tour, tour_pictures
from mygpt_cli.ui.export import Export, Shown
from mygpt_cli.ui.tour import fit_page, render_page, show_tour, walk
from mygpt_cli.ui.tour_screens import STAGES, STOPS, Page, pages
from tests.helpers.models import SHAPE, VARIANTS, random_model
from tests.helpers.screens import render
from tests.helpers.standins import byte_tokenizer

LETTERS = "".join(chr(code) for code in range(33, 33 + SHAPE["vocab_size"] - 2)) + "\u202e漢"


def tour_of(variant: str, length: int = 9) -> Tour:
    model = random_model(**VARIANTS[variant]).requires_grad_(False)
    tokenizer = train_tokenizer("char", [LETTERS])
    ids = torch.randint(
        0, SHAPE["vocab_size"], (length,), generator=torch.Generator().manual_seed(9)
    ).tolist()
    return take_tour(ReferenceDecoder(model), tokenizer, Prompt(tokenizer.decode(ids), tuple(ids)), seed=3)


def test_the_stages_are_those_of_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "how-it-works.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| (\d+) ([^|]+) \|", text, flags=re.MULTILINE)
    assert [(int(number), title.strip()) for number, title in named] == [
        (number, stop.title) for number, stop in enumerate(STOPS[:STAGES], 1)
    ]


def test_the_words_name_the_settings_that_were_used() -> None:
    words = {stop.title: f"{' '.join(stop.numbers)} {stop.text}" for stop in STOPS}
    assert "at {:g}, {:g} and {:g}".format(*TEMPERATURES) in words["temperature"]
    assert f"top-k {TOP_K} keeps" in words["top-k and top-p"]
    assert f"top-p {TOP_P} keeps" in words["top-k and top-p"]
    assert f"here {BEAMS}," in words["beam search"]


def test_every_screen_has_two_sentences_and_a_question_with_an_answer() -> None:
    for page in pages(tour_of("gpt2")):
        assert page.numbers
        assert len(re.findall(r"\.(?: |$)", page.text)) == 2, page.title
        assert page.question.endswith("?")
        assert page.answer.endswith(".")


def test_the_words_are_true_of_the_tokenizer() -> None:
    of_characters = pages(tour_of("gpt2"))
    tokenizer = byte_tokenizer()
    prompt = Prompt("I", tuple(tokenizer.encode("I")))
    model = random_model(arch="gpt2", vocab_size=tokenizer.vocab_size).requires_grad_(False)
    of_byte_pairs = pages(take_tour(ReferenceDecoder(model), tokenizer, prompt, seed=3))
    assert of_characters[0].answer.startswith("Letters: each of this model's tokens is a single character.")
    assert of_byte_pairs[0].answer.startswith("Neither. A token may be a letter, a part of a word,")
    assert of_characters[1].question == "Why do many models have longer tokens?"
    assert of_byte_pairs[1].question == "Why not make each byte a token?"


def test_of_many_merges_the_last_have_their_numbers() -> None:
    taken = tour_of("nanochat")
    token = b"abcdefghijklm"
    merges = tuple((token[:at], token[at : at + 1]) for at in range(1, len(token)))
    life = replace(taken.life, token=token, merges=merges, merged=True)
    shown = render(tour_pictures.merges(replace(taken, life=life), 80))
    assert [line.split()[1] for line in shown.splitlines() if "merge" in line] == list(map(str, range(5, 13)))
    assert shown.splitlines()[-2].split()[2:] == ["abcdefghijkl", "+", "m"]


def test_numbers_say_what_they_are() -> None:
    whole = {page.title: page for page in pages(tour_of("nanochat"))}
    pictures = {title: " ".join(render(page.picture(80)).split()) for title, page in whole.items()}
    assert pictures["embedding"].startswith("embedding ─")
    assert pictures["positions"].startswith("rotary cosines ─")
    heads = "layer 1 length of length of length of query key value ─"
    assert pictures["queries, keys, values"].startswith(heads)
    assert pictures["feed-forward"].startswith("length ─")
    assert pictures["final norm"].startswith("length ─")
    assert whole["choice"].numbers["drawn with"] == "temperature 1, seed 3"
    width = SHAPE["width"] // SHAPE["heads"]
    assert f"every head makes three vectors of {width} numbers" in whole["queries, keys, values"].text
    assert "this sum divided by its number of tokens" in whole["beam search"].text
    assert whole["attention"].numbers["largest weight"].endswith("'")


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_fits_and_is_safe_for_every_architecture(variant: str) -> None:
    whole = pages(tour_of(variant))
    for width in (60, 80, 120):
        for page in whole:
            shown = render(render_page(page, width), width)
            assert all(cell_len(line) <= width for line in shown.splitlines()), (page.title, width)
            assert "\u202e" not in shown
            assert "{" not in page.text


def on_a_terminal(page: Page, width: int, height: int, *, answered: bool = True) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height)
    with console.capture() as capture:
        console.print(fit_page(page, console, answered=answered))
    return capture.get().splitlines()


@pytest.mark.parametrize("variant", ["gpt2", "llama, tied, all biases, scaled"])
@pytest.mark.parametrize("length", [1, 9, 40])
def test_every_screen_fits_into_a_terminal(variant: str, length: int) -> None:
    for page in pages(tour_of(variant, length)):
        for width in (60, 80, 120):
            lines = on_a_terminal(page, width, 24)
            assert len(lines) < 24, (page.title, width)  # one is for the keys
            shown = " ".join(" ".join(lines).split())
            assert page.answer in shown
            assert width < 80 or "make the window higher" not in shown, page.title
            asked = on_a_terminal(page, width, 24, answered=False)
            where = next(at for at, line in enumerate(lines) if line.startswith("Question: "))
            assert asked[:where] == lines[:where]


def test_a_low_window_shows_the_beginning_of_a_picture() -> None:
    page = pages(tour_of("gpt2"))[3]
    whole = on_a_terminal(page, 80, 40)
    assert [line.rstrip() for line in whole] == render(render_page(page, 80), 80).splitlines()
    low = on_a_terminal(page, 80, 16)
    assert len(low) == 15
    assert low[1] == whole[2]
    (told,) = [line for line in low if "make the window higher" in line]
    left = sum("number " in line for line in low)
    assert told.split(":")[0] == f"… {8 - left} more rows"
    assert len(on_a_terminal(page, 80, 5)) < 12  # words are never left out


def test_a_text_of_one_token_has_a_tour_too() -> None:
    assert len(pages(tour_of("gpt2", 1))) == len(STOPS)


def test_the_line_of_all_tokens_shows_where_the_draw_falls() -> None:
    taken = tour_of("nanochat")
    line, mark = render(pages(taken)[11].picture(80)).splitlines()[:2]
    picked = 1 + [one.picked for one in taken.life.choice.candidates].index(True)
    assert line[mark.index("▲")] == str(picked)
    assert mark.index("▲") == int(taken.life.choice.draw * 72)


def walked(keys: list[str]) -> tuple[list[tuple[str, bool]], list[str]]:
    """Return which screens are seen with these keys, and what was asked."""
    seen: list[tuple[str, bool]] = []
    asked: list[str] = []
    given = iter(keys)

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return next(given)

    def turn_to(page: Page, answered: bool) -> None:
        seen.append((page.title, answered))

    empty = [Page(str(at), title, lambda width: "", {}, "", "", "") for at, title in enumerate("abc")]
    walk(empty, turn_to, ask)
    return seen, asked


def test_enter_goes_on_b_goes_back_and_q_leaves() -> None:
    whole = [(title, answered) for title in "abc" for answered in (False, True)]
    seen, asked = walked(["enter"] * 6)
    assert seen == whole
    assert asked[0] == "Enter: answer   q: leave "
    assert asked[-1] == "Enter: end   b: back   q: leave "
    assert walked(["q"])[0] == whole[:1]
    assert walked(["right", " ", "end"])[0] == whole[:3]
    assert walked(["b", "enter", "left", "n", "enter", "backspace", "q"])[0] == [
        *(("a", False), ("a", False), ("a", True), ("a", False), ("a", True)),
        *(("b", False), ("a", False)),
    ]


def test_only_keys_that_do_something_count(capsys: pytest.CaptureFixture[str]) -> None:
    keys = iter(["x", "other", "\x1b", "B"])
    assert tour._ask("q: leave ", lambda: next(keys)) == "b"
    assert list(keys) == []
    assert capsys.readouterr().out == "q: leave \n"  # whatever follows begins its own line


def test_json_has_the_same_words(cycle_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["inspect", str(cycle_run), "--tour", "--prompt", "I love", "--seed", "1"]
    assert run([*command, "--json"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["title"] for record in records] == [stop.title for stop in STOPS]
    assert records[2]["numbers"]["vocabulary"] == "8 tokens"
    assert run(command) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for record in records:
        for name in ("text", "question", "answer"):
            assert record[name] in shown
    assert run([*command, "--top-k", "3"]) == 2
    assert "--tour" in capsys.readouterr().err


def test_a_page_is_there_before_the_tour_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(prompt: str, key: Callable[[], str]) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(tour, "_is_watched", lambda: True)
    monkeypatch.setattr(tour, "_ask", interrupted)
    opened: list[str] = []

    def browse(address: str) -> bool:
        opened.append(address)
        return True

    monkeypatch.setattr("webbrowser.open", browse)
    path = tmp_path / "a.html"
    with pytest.raises(KeyboardInterrupt):
        show_tour(tour_of("gpt2"), Shown(to=Export(html=path)))
    assert "Beam search draws nothing" in path.read_text(encoding="utf-8")
    show_tour(tour_of("gpt2"), Shown(to=Export(html=path, open=True)))  # asks nothing
    assert opened == [path.as_uri()]


IN_ITS_TERMINAL = """
import fcntl, sys, termios
from mygpt_cli.cli.app import run

fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # the terminal of this process
before = termios.tcgetattr(0)
code = run(sys.argv[1:])
print("as before" if termios.tcgetattr(0) == before else "not as before")
sys.exit(code)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
@pytest.mark.parametrize(
    ("keys", "code"), [(("\r", " ", "b", "xq"), 0), (("\r", "n", "\x1b[D", "\x03"), 130)]
)
def test_on_a_terminal_single_keys_lead_through_it(
    keys: tuple[str, ...], code: int, cycle_run: Path, tmp_path: Path
) -> None:
    import fcntl  # not on Windows
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-c", IN_ITS_TERMINAL, "inspect", str(cycle_run), "--quiet"]
    command += ["--tour", "--prompt", "I love", "--html", str(tmp_path / "a.html")]
    environment = os.environ | {"TERM": "xterm", "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1"}
    waiting, shown = list(keys), b""
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    ) as process:
        os.close(theirs)
        with contextlib.suppress(OSError):  # the other side has been closed
            while part := os.read(ours, 4096):
                shown += part
                if waiting and shown.endswith(b"leave "):
                    os.write(ours, waiting.pop(0).encode())
    os.close(ours)
    assert process.returncode == code, shown.decode()
    screens = re.split(r"\x1b\[2J", shown.decode())[1:]
    texts = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen) for screen in screens]
    assert texts[-1].splitlines()[-1] == "as before"
    for text in texts:
        assert text.partition("leave ")[0].count("\r\n") < 24
    assert sum("Question: Does the model see letters" in text for text in texts) == 3
    assert sum("Answer: Letters:" in text for text in texts) == 1
    assert sum("Question: Why do many models have longer tokens?" in text for text in texts) == 1
    assert "token ids" not in shown.decode()
    assert "Beam search draws nothing" in (tmp_path / "a.html").read_text(encoding="utf-8")


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_where_keys_cannot_be_had_one_by_one_it_waits_for_enter(cycle_run: Path, tmp_path: Path) -> None:
    import pty  # not on Windows

    ours, theirs = pty.openpty()
    command = [str(Path(sys.executable).with_name("mygpt")), "inspect", str(cycle_run), "--quiet"]
    command += ["--tour", "--prompt", "I love", "--html", str(tmp_path / "a.html")]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80", "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        os.write(ours, b"\n\nb\nq\n")
        shown = b""
        with contextlib.suppress(OSError):  # the other side has been closed
            while part := os.read(ours, 4096):
                shown += part
    os.close(ours)
    assert process.returncode == 0
    screen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert screen.count("Question: Does the model see letters") == 3
    assert screen.count("Answer: Letters:") == 1
    assert screen.count("Question: Why do many models have longer tokens?") == 1
    assert "token ids" not in screen
    assert "Beam search draws nothing" in (tmp_path / "a.html").read_text(encoding="utf-8")
