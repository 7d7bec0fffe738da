"""The types of settings are those of the configuration that they become."""

from typing import get_type_hints

from mygpt_cli.config.knobs import knobs
from mygpt_cli.config.settings import Settings, without
from mygpt_cli.config.train import TrainConfig


def test_each_setting_has_the_type_of_its_declaration() -> None:
    declared = get_type_hints(TrainConfig)
    assert get_type_hints(Settings) == {name: declared[name] for name in knobs(TrainConfig)}
    assert Settings.__required_keys__ == frozenset()


def test_settings_can_be_left_out() -> None:
    assert without({"layers": 2, "heads": 4, "val_file": None}, ["heads", "width"]) == {
        "layers": 2,
        "val_file": None,
    }
