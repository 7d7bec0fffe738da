"""Where settings come from, and which source wins.

A flag wins over an environment variable `MYGPT_<NAME>`, that over a TOML recipe, that over a preset.
What none of them sets, `training.sizing` chooses.
"""

import errno
import json
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, cast

from mygpt_cli.base.errors import UsageError, did_you_mean
from mygpt_cli.config.checks import BUDGETS
from mygpt_cli.config.course import as_course
from mygpt_cli.config.knobs import flag_of, former_names, knobs, under_present_names
from mygpt_cli.config.settings import Settings
from mygpt_cli.config.train import WITHOUT_FLAG, TrainConfig, as_settings
from mygpt_cli.model.architectures import ARCHITECTURES

PREFIX = "MYGPT_"
OTHER_VARIABLES = {"MYGPT_CACHE_DIR", "MYGPT_CPU", "MYGPT_DEBUG"}
LARGEST = 4 * 2**20  # bytes of a recipe: the names of some 40,000 files
NO_EFFECT = (  # a setting, and the value of another one with which it does nothing
    ("muon_lr", "optimizer", "adamw"),
    ("bpe_dropout", "tokenizer", "char"),
    *(("softcap", "arch", name) for name, it in ARCHITECTURES.items() if "softcap" not in it.options),
    ("decay_fraction", "schedule", "constant"),
    ("final_lr", "schedule", "constant"),
)
MISSPELT = 0.85  # as near as this to the name of a setting; what is farther off is no business of ours


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Read `MYGPT_<NAME>` variables; raises UsageError for wrong values and for names that look misspelt."""
    names = {_variable_of(name): name for name in knobs(TrainConfig) if name not in WITHOUT_FLAG}
    former = {_variable_of(old): _variable_of(new) for old, new in former_names(TrainConfig).items()}
    settings: dict[str, Any] = {}
    called: dict[str, str] = {}
    faults = []
    for given, text in environment.items():
        if not text or not given.startswith(PREFIX) or given in OTHER_VARIABLES:
            continue
        if given in former and environment.get(former[given]):
            continue
        variable = former.get(given, given)
        if variable in names:
            name = names[variable]
            called[name] = given
            try:
                settings[name] = knobs(TrainConfig)[name].parse(text)
            except ValueError as error:
                faults.append(f"{given}: {error}")
        elif near := did_you_mean(variable, names, MISSPELT):
            faults.append(f"unknown setting {variable}{near}")
    return as_settings(settings, lambda name: called.get(name) or _variable_of(name), faults)


def _variable_of(name: str) -> str:
    return f"{PREFIX}{name.upper()}"


def from_toml(text: str, source: str) -> Settings:
    """Read settings from TOML; raises UsageError naming the source for every key that is unknown or wrong."""
    try:
        given = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{source} is not valid TOML: {error}") from None
    settings = under_present_names(TrainConfig, given)
    former = former_names(TrainConfig)
    called = {former[name]: name for name in given if name in former and former[name] not in given}
    if isinstance(settings.get("time"), int | float):
        settings["time"] = f"{settings['time']}s"
    if isinstance(settings.get("files"), list):
        settings["files"] = tuple(settings["files"])
    if "corrections" in settings:
        settings["corrections"] = as_course(settings["corrections"])
    hint = "a recipe has one `name = value` line for each setting"
    return as_settings(settings, lambda name: f"{source}: {called.get(name, name)}", hint=hint)


def from_file(path: Path) -> Settings:
    """Read a TOML recipe from disk; raises UsageError when it cannot be read."""
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST + 1)
        if len(raw) > LARGEST:
            raise OSError(errno.EFBIG, f"it is larger than {LARGEST // 2**20} MiB")
        return from_toml(raw.decode("utf-8-sig"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(
            f"cannot read {path}: {reason}", "--preset NAME uses a recipe that comes with mygpt"
        ) from None


def preset_names() -> list[str]:
    """Return the names of the recipes that come with mygpt."""
    folder = _preset_folder()
    return sorted(
        entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")
    )


def from_preset(name: str) -> Settings:
    """Read a recipe that comes with mygpt; raises UsageError with the nearest name for an unknown one."""
    if name not in preset_names():
        known = ", ".join(preset_names())
        raise UsageError(f"unknown preset '{name}'{did_you_mean(name, preset_names())}", f"presets: {known}")
    return from_toml((_preset_folder() / f"{name}.toml").read_text(encoding="utf-8"), f"preset {name}")


def _preset_folder() -> Any:
    # An editable install has the recipes where they are kept, beside the package; a wheel has them inside.
    beside = Path(__file__).parents[2] / "configs"
    inside = resources.files("mygpt_cli") / "configs"
    return inside if inside.is_dir() else beside


def merge(layers: Iterable[Settings]) -> Settings:
    """Put settings together, the strongest layer first; a budget replaces any weaker one."""
    merged: dict[str, Any] = {}
    for layer in layers:
        budget_set = any(name in merged for name in BUDGETS)
        for name, value in layer.items():
            if name not in merged and not (name in (*BUDGETS, "corrections") and budget_set):
                merged[name] = value
    return cast(Settings, merged)


def effect_faults(flags: Settings, settings: Settings) -> list[str]:
    """List the flags that do nothing with the settings that they are a part of."""
    if settings.get("init_from"):
        settings = {"optimizer": "adamw"} | settings  # what fine-tuning takes unless told otherwise
    return [
        f"{flag_of(name)} has no effect with {flag_of(other)} {value}"
        for name, other, value in NO_EFFECT
        if flags.get(name) and settings.get(other) == value
    ]


def to_toml(config: TrainConfig) -> str:
    """Write the resolved configuration so that `--config` reads it back unchanged."""
    lines: list[str] = []
    group = ""
    for name, knob in knobs(TrainConfig).items():
        value = getattr(config, name)
        if knob.group != group:
            group = knob.group
            lines += ["", f"# {group}"]
        if value not in (None, ()):
            lines.append(f"{name} = {_toml_value(value)}")
    return "\n".join(lines).lstrip() + "\n"


def _toml_value(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml_value(part) for part in value) + "]"
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for DEL; surrogates (from undecodable file names) have no TOML form.
        text = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        return text.encode("utf-8", "replace").decode("utf-8")
    return json.dumps(value)
