"""Where settings come from: environment, TOML, presets, and which wins."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mygpt_cli.base.errors import UsageError
from mygpt_cli.config.course import Course
from mygpt_cli.config.settings import Settings
from mygpt_cli.config.sources import (
    effect_faults,
    from_environment,
    from_file,
    from_preset,
    from_toml,
    merge,
    preset_names,
    to_toml,
)
from tests.conftest import tiny_config


def test_precedence() -> None:
    merged = merge([{"layers": 1}, {"layers": 2, "heads": 2}, {"layers": 3, "heads": 3, "width": 3}])
    assert merged == {"layers": 1, "heads": 2, "width": 3}


def test_a_budget_replaces_a_weaker_one_of_another_kind() -> None:
    assert merge([{"time": "5m"}, {"steps": 100, "layers": 2}]) == {"time": "5m", "layers": 2}
    assert merge([{"layers": 2}, {"steps": 100}, {"time": "5m"}]) == {"layers": 2, "steps": 100}


def test_the_corrections_of_a_budget_go_with_it() -> None:
    corrected: Settings = {"steps": 9, "corrections": ((0, 5), (2, 9)), "layers": 2}
    assert merge([{"layers": 1}, corrected]) == corrected | {"layers": 1}
    assert merge([{"steps": 9}, corrected]) == {"steps": 9, "layers": 2}
    assert merge([{"time": "5m"}, corrected]) == {"time": "5m", "layers": 2}


def test_flags_that_do_nothing_are_named() -> None:
    flags: Settings = {"muon_lr": 0.1, "bpe_dropout": 0.1, "final_lr": 0.0, "softcap": 5.0}
    others: Settings = {"optimizer": "adamw", "tokenizer": "char"}
    others |= {"schedule": "constant", "decay_fraction": 0.5}
    assert effect_faults(flags, flags | others) == [
        "--muon-lr has no effect with --optimizer adamw",
        "--bpe-dropout has no effect with --tokenizer char",
    ]
    assert not effect_faults({"lr": 0.1}, flags | others)  # as a resolved configuration has them
    fine_tuning: Settings = {"muon_lr": 0.1, "init_from": "a run"}
    assert effect_faults(fine_tuning, fine_tuning) == ["--muon-lr has no effect with --optimizer adamw"]
    assert not effect_faults(fine_tuning, fine_tuning | {"optimizer": "muon"})


def test_environment() -> None:
    assert from_environment(
        {"MYGPT_LAYERS": "3", "MYGPT_LR": "1e-3", "OTHER": "x", "MYGPT_CACHE_DIR": "y"}
    ) == {
        "layers": 3,
        "lr": 1e-3,
    }
    with pytest.raises(UsageError, match="MYGPT_LAYERS: 'x' is not a whole number"):
        from_environment({"MYGPT_LAYERS": "x"})


def test_variables_that_look_misspelt_are_named_and_others_left_alone() -> None:
    others = {"MYGPT_CACHE_DIR": "x", "MYGPT_DEBUG": "1", "MYGPT_WORKSPACE": "x", "MYGPT_LAYER": ""}
    assert from_environment(others | {"MYGPT_OUT": "runs", "NAYERS": "2"}) == {"out": "runs"}
    with pytest.raises(UsageError) as fault:
        from_environment(others | {"MYGPT_LAYER": "2", "MYGPT_BATCHSIZE": "4", "MYGPT_HEADS": "0"})
    assert fault.value.faults == [
        "unknown setting MYGPT_LAYER (did you mean 'MYGPT_LAYERS'?)",
        "unknown setting MYGPT_BATCHSIZE (did you mean 'MYGPT_BATCH_SIZE'?)",
        "MYGPT_HEADS must be at least 1, not 0",
    ]


def test_settings_are_also_read_by_the_names_of_earlier_versions() -> None:
    assert from_toml("decay_share = 0.3", "recipe.toml") == {"decay_fraction": 0.3}
    assert from_toml("decay_fraction = 0.2\ndecay_share = 0.3", "recipe.toml") == {"decay_fraction": 0.2}
    assert from_environment({"MYGPT_DECAY_SHARE": "0.3"}) == {"decay_fraction": 0.3}
    both = {"MYGPT_DECAY_FRACTION": "0.2", "MYGPT_DECAY_SHARE": "0.3"}
    assert from_environment(both) == {"decay_fraction": 0.2}
    empty = {"MYGPT_DECAY_FRACTION": "", "MYGPT_DECAY_SHARE": "0.3"}
    assert from_environment(empty) == {"decay_fraction": 0.3}


def test_faults_have_the_name_that_was_given() -> None:
    for name in ("decay_share", "decay_fraction"):
        with pytest.raises(UsageError, match=f"recipe.toml: {name} must be at most 1, not 2"):
            from_toml(f"{name} = 2", "recipe.toml")
        variable = f"MYGPT_{name.upper()}"
        with pytest.raises(UsageError, match=f"^{variable} must be at most 1, not 2"):
            from_environment({variable: "2"})
        with pytest.raises(UsageError, match=f"^{variable}: "):
            from_environment({variable: "much"})


def test_toml_lists_every_unknown_key_with_its_source() -> None:
    with pytest.raises(UsageError) as fault:
        from_toml("lauers = 3\nheads = 'two'\nwidht = 9", "recipe.toml")
    assert fault.value.faults == [
        "unknown setting recipe.toml: lauers (did you mean 'layers'?)",
        "recipe.toml: heads must be a whole number, not 'two'",
        "unknown setting recipe.toml: widht (did you mean 'width'?)",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("corrections = 3", "recipe.toml: corrections must be pairs of whole numbers in ascending order"),
        ("corrections = [[0, 1.5]]", "must be pairs of whole numbers"),
        ("corrections = [[0, 9], [5, 3]]", "must be pairs of whole numbers"),
        ("steps = 8\ncorrections = [[0, 9]]", "corrections end with 9 steps, but recipe.toml: steps is 8"),
        ("corrections = [[0, 9]]", "corrections end with 9 steps, but recipe.toml: steps is not set"),
    ],
)
def test_corrections_that_no_run_wrote(text: str, fault: str) -> None:
    with pytest.raises(UsageError, match=fault):
        from_toml(text, "recipe.toml")


@pytest.mark.parametrize("text", ["layers =", "[model\nlayers = 1"])
def test_broken_toml(text: str) -> None:
    with pytest.raises(UsageError, match="not valid TOML"):
        from_toml(text, "recipe.toml")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        from_file(tmp_path / "missing.toml")


def test_presets_are_valid_and_say_what_they_reach() -> None:
    assert "classic-cpu" in preset_names()
    for name in preset_names():
        assert from_preset(name)
    with pytest.raises(UsageError, match="did you mean 'classic-cpu'"):
        from_preset("clasic-cpu")


texts = st.text(st.characters(codec="utf-8"))


@given(
    files=st.lists(texts, max_size=3),
    val_file=st.none() | texts,
    lr=st.floats(1e-9, 10),
    seed=st.integers(0, 2**63 - 1),
    corrections=st.sampled_from([(), ((0, 9), (5, 12)), ((0, 40), (12, 12))]),
)
def test_the_resolved_configuration_reads_back_unchanged(
    files: list[str], val_file: str | None, lr: float, seed: int, corrections: Course
) -> None:
    config = tiny_config(files=tuple(files), val_file=val_file, lr=lr, seed=seed, corrections=corrections)
    assert tiny_config(**from_toml(to_toml(config), "config.toml")) == config


@pytest.mark.skipif(os.name == "nt", reason="there are no such devices on Windows")
def test_a_recipe_without_end_or_bottom_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="larger than 4 MiB"):
        from_file(Path("/dev/zero"))
    (tmp_path / "deep.toml").write_text("files = " + "[" * 100_000, encoding="utf-8")
    with pytest.raises(UsageError, match="not valid TOML"):
        from_file(tmp_path / "deep.toml")
