"""How much memory training takes, and what is done about too little."""

import re
from dataclasses import replace

import pytest

from mygpt_cli.base.errors import ResourceError
from mygpt_cli.config.settings import Settings
from mygpt_cli.config.train import TrainConfig
from mygpt_cli.tokens.dataset import Dataset
from mygpt_cli.training.memory import OPENED, check_start, fit_memory
from mygpt_cli.training.sizing import plan


def unmeasured(config: TrainConfig, limit: float) -> float:
    """No budget is one of time."""
    raise AssertionError


def test_a_model_larger_than_memory_is_refused_with_one_that_fits(tiny_dataset: Dataset) -> None:
    settings: Settings = {
        "layers": 12,
        "width": 768,
        "heads": 12,
        "context": 32,
        "batch_size": 4,
        "steps": 10,
    }
    config = plan(settings, tiny_dataset, unmeasured).config(10)
    assert fit_memory(config, 65, 24 * 10**9) == config
    with pytest.raises(ResourceError, match=r"takes about 2 GB of memory; there are 1 GB") as fault:
        fit_memory(config, 65, 10**9)
    fits = re.fullmatch(r"--layers (\d+) or --width (\d+) would fit", fault.value.hint)
    assert fits
    layers, width = map(int, fits.groups())
    for smaller, larger in (
        (replace(config, layers=layers), replace(config, layers=layers + 1)),
        (replace(config, width=width), replace(config, width=width + 24)),
    ):
        fit_memory(smaller, 65, 800 * 10**6)
        with pytest.raises(ResourceError):
            fit_memory(larger, 65, 800 * 10**6)
    with pytest.raises(ResourceError) as fault:
        fit_memory(config, 65, 10**6)
    assert fault.value.hint == "a smaller --context needs less"


def test_a_resumed_run_is_not_told_to_change_its_shape(tiny_dataset: Dataset) -> None:
    settings: Settings = {"layers": 12, "width": 768, "heads": 12, "context": 32, "steps": 10}
    config = plan(settings | {"members": 1}, tiny_dataset, unmeasured).config(10)
    with pytest.raises(ResourceError) as fault:
        fit_memory(config, 65, 10**9, resumed=True)
    assert fault.value.hint == "resume it on a machine with more memory"
    with pytest.raises(ResourceError) as fault:
        fit_memory(config, 65, 10**9, processes=8, resumed=True)
    assert fault.value.hint == "--shard would fit"


def test_a_sharded_model_takes_its_part_of_memory(tiny_dataset: Dataset) -> None:
    settings: Settings = {"layers": 48, "width": 768, "heads": 12, "context": 32, "steps": 10}
    config = plan(settings | {"members": 1}, tiny_dataset, unmeasured).config(10)
    with pytest.raises(ResourceError, match="takes about 10 GB of memory") as fault:
        fit_memory(config, 65, 3 * 10**9, processes=8)
    assert fault.value.hint.endswith(" or --shard would fit")
    sharded = replace(config, shard=True)
    assert fit_memory(sharded, 65, 3 * 10**9, processes=8) == sharded
    with pytest.raises(ResourceError) as fault:
        fit_memory(sharded, 65, 10**9, processes=8)
    assert "--shard" not in fault.value.hint


def test_a_batch_larger_than_memory_is_taken_in_parts(tiny_dataset: Dataset) -> None:
    settings: Settings = {
        "layers": 2,
        "width": 64,
        "context": 256,
        "batch_size": 24,
        "accumulation": 2,
        "steps": 10,
    }
    config = plan(settings, tiny_dataset, unmeasured).config(10)
    fitting = fit_memory(config, 65, 20 * 10**6)
    assert fitting.batch_size < 12
    assert fitting.batch_size * fitting.accumulation == 48
    with pytest.raises(ResourceError):
        fit_memory(config, 65, 10**6)


def test_what_is_fine_tuned_counts_as_it_is_and_as_it_was_opened(tiny_dataset: Dataset) -> None:
    """Its shape may have other sizes than those that a model of mygpt's own has."""
    settings: Settings = {"layers": 2, "width": 64, "heads": 2, "context": 32, "batch_size": 4, "steps": 10}
    config = plan(settings, tiny_dataset, unmeasured).config(10)
    config = replace(config, init_from="somewhere")
    start = 10**7
    assert fit_memory(config, 65, 300 * 10**6, start=start, kept=OPENED * start).init_from
    for memory, hint in ((260_200_000, r"a smaller --context needs less"), (10**8, r"at most 5 million")):
        with pytest.raises(ResourceError) as fault:
            fit_memory(config, 65, memory, start=start, kept=OPENED * start)
        assert re.search(hint, fault.value.hint)


def test_weights_too_many_to_be_fine_tuned_are_refused_before_they_are_read() -> None:
    check_start(10**9, 24 * 10**9)
    with pytest.raises(ResourceError, match=r"takes at least 148.2 GB of memory, and 22.0 GB are") as fault:
        check_start(6_738_000_000, 22 * 10**9)
    assert fault.value.hint == "a model of at most 1,000 million weights would fit"
