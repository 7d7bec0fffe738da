"""Help: examples that work, what people need first, and every flag in full."""

import re
from pathlib import Path
from shlex import split
from typing import Any

import pytest
import typer

from mygpt_cli.cli import options, sampling
from mygpt_cli.cli.app import build_app, run
from mygpt_cli.cli.help import EXAMPLES, MEANT, no_command
from mygpt_cli.config.knobs import knobs
from mygpt_cli.config.sampling import Sampling, resolve_each
from mygpt_cli.config.train import WITHOUT_FLAG, TrainConfig

Captured = pytest.CaptureFixture[str]
NAMES = ("train", "sample", "inspect", "runs", "export")


def command(name: str) -> Any:
    group: Any = typer.main.get_command(build_app())
    return group.commands[name]


def help_of(capsys: Captured, *arguments: str) -> str:
    assert run(arguments) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    return shown.out


def flags_in(text: str) -> set[str]:
    """Return the flags that a help describes."""
    return set(re.findall(r"^  (?:-\w, )?(--[\w-]+)", text, flags=re.MULTILINE))


@pytest.mark.parametrize("name", NAMES)
def test_help_leaves_the_flags_of_experts_to_help_all(name: str, capsys: Captured) -> None:
    few, all_of_them = (flags_in(help_of(capsys, name, flag)) for flag in ("--help", "--help-all"))
    parameters = command(name).params
    options = {max(each.opts, key=len): each for each in parameters if each.param_type_name == "option"}
    assert all_of_them == {*options, "--help"}
    assert few == {flag for flag, option in options.items() if not option.hidden} | {"--help"}
    assert len(few) <= 30


def test_only_the_declaration_of_a_setting_says_who_needs_it(capsys: Captured) -> None:
    training = {knob.flag for knob in knobs(TrainConfig).values() if knob.expert}
    assert {
        "--beta1",
        "--beta2",
        "--decay-fraction",
        "--final-lr",
        "--warmup",
        "--softcap",
        "--eval-every",
        "--shard",
    } <= training
    assert not training & flags_in(help_of(capsys, "train", "--help"))
    expert = {knob.flag for knob in knobs(Sampling).values() if knob.expert}
    assert {"--filters", "--window", "--speculate", "--typical-p"} <= expert
    for name in ("sample", "inspect"):
        assert not expert & flags_in(help_of(capsys, name, "--help"))


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("name", NAMES)
def test_help_begins_with_examples_and_fits(
    name: str, width: int, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = help_of(capsys, name, "--help").splitlines()
    assert all(len(line) <= min(width, 100) for line in lines)
    assert lines[0].startswith(f"Usage: mygpt {name} [")
    titles = [line for line in lines if line and not line.startswith(" ")]
    assert "Examples" in titles[:4]
    assert sum(f"mygpt {name}" in line for line in lines[1:]) >= 3


@pytest.mark.parametrize("name", NAMES)
def test_every_example_is_accepted(name: str) -> None:
    """By the parser, and by the checks of its settings."""
    examples = command(name).examples
    assert 3 <= len(examples) <= 5
    for example in (*examples, *(each for each in EXAMPLES if split(each.command)[1] == name)):
        words = split(example.command.partition(">")[0])
        assert words[:2] == ["mygpt", name]
        context = command(name).make_context(name, words[2:])
        given = {key: value for key, value in context.params.items() if value not in (None, ())}
        if name == "train":
            options.read_flags(
                {key: given[key] for key in given if key in knobs(TrainConfig)} | {"files": None}
            )
        elif name in ("sample", "inspect"):
            flags = {key: given[key] for key in given if key in knobs(Sampling)}
            resolve_each({"seed": 0} | sampling.read_flags(flags))


@pytest.mark.parametrize("owner", [TrainConfig, Sampling])
def test_every_setting_says_its_range_and_its_default(owner: type) -> None:
    for name, knob in knobs(owner).items():
        text = knob.explained
        assert text.endswith("."), name
        assert "[dim]" not in text
        if knob.choices:
            assert all(choice in text for choice in knob.choices)
        if knob.kind is float and knob.at_least == 0 and knob.below == 1:
            assert "at least 0, below 1" in text
        if name not in WITHOUT_FLAG and isinstance(knob.default, int | float) and knob.default is not False:
            assert f"default: {knob.default:g}" in text
    assert "(1 to 1,000; default: automatic)" in knobs(TrainConfig)["layers"].explained
    assert "(above 0, at most 1; default: 1, off)" in knobs(Sampling)["top_p"].explained


@pytest.mark.parametrize("name", NAMES)
def test_every_line_stands_alone(name: str) -> None:
    """As far as a test can tell: a whole sentence with a word for what it is about."""
    for each in command(name).params:
        text = each.help
        assert text[0].isupper() or text.startswith("char"), each.name
        assert len(text.split()) >= 3, text
        assert not re.match(r"(The same|It|This|That|They|Of)\b", text), text


def test_the_program_by_itself_says_what_can_be_done(capsys: Captured) -> None:
    for arguments in ((), ("--help",), ("-h",)):
        shown = help_of(capsys, *arguments)
        for word in ("train", "sample", "inspect", "runs", "--version"):
            assert word in shown


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("generate", "`mygpt sample`"),
        ("generate --seed 1", "`mygpt sample --seed 1`"),
        ("generate Once", "`mygpt sample --prompt Once`"),
        ("genrate Once", "`mygpt sample --prompt Once`"),
        ("chat", "`mygpt sample --interactive`"),
        ("chat hello", "`mygpt sample --interactive`"),
        ("trian story.txt", "`mygpt train story.txt`"),
        ("resume --time 5m", "`mygpt train --resume latest --time 5m`"),
        ("finetune story.txt", "`mygpt train --init-from CHECKPOINT story.txt`"),
        ("perplexity story.txt", "`mygpt inspect --text story.txt`"),
        ("perplexity", "`mygpt inspect --text FILE`"),
        ("ls", "`mygpt runs`"),
        ("story.txt", "`mygpt train story.txt`"),
        ("resume story-001", "`mygpt train --resume story-001`"),
        ("tokenize story.txt", "`mygpt inspect --tokens --text story.txt`"),
        ("tokenize Once", "`mygpt inspect --tokens --prompt Once`"),
        ("help train", "`mygpt train --help`"),
        ("folder", "`mygpt train folder`"),
        ("model", "`mygpt inspect model`"),
        ("qqqq", "train, sample, inspect, runs"),
    ],
)
def test_what_is_no_command_leads_to_one(
    typed: str, meant: str, capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("story.txt").write_text("Once.", encoding="utf-8")
    Path("folder").mkdir()
    Path("model").mkdir()
    Path("model", "config.json").touch()
    assert run(split(typed)) == 2
    said = capsys.readouterr().err
    assert f"error: there is no command '{split(typed)[0]}'\n" in said
    assert meant in " ".join(said.split())


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("sample --promt Once", "`mygpt sample --help` lists its flags"),
        ("inspect --steps many", "`mygpt inspect --help` lists its flags"),
        ("--verbose", "`mygpt --help` lists the commands, `mygpt COMMAND --help` its flags"),
    ],
)
def test_a_flag_that_cannot_be_used_leads_to_the_help_of_its_command(
    typed: str, hint: str, capsys: Captured
) -> None:
    assert run(split(typed)) == 2
    assert f"hint: {hint}\n" in capsys.readouterr().err


def test_what_is_meant_is_a_command() -> None:
    for meant in MEANT.values():
        assert meant.split()[0] in (*NAMES, "--help", "--version")
    assert no_command("x" * 400, [], NAMES)[1]
