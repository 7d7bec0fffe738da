"""What all tests share: an environment of their own, small texts, a small trained run."""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "4000")  # before torch is loaded: tests run beside other work

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from mygpt_cli.config.train import TrainConfig
from mygpt_cli.text.corpus import open_corpus
from mygpt_cli.tokens.dataset import Dataset, prepare

CYCLE = "I love AI ! "
SHARED = Path(__file__).parents[2] / "shared" / "data"

COMPILED = os.environ.get("MYGPT_CPU") != "none"
needs_compiled = pytest.mark.skipif(not COMPILED, reason="MYGPT_CPU=none: there is no compiled code")
KEPT = {"MYGPT_CPU"}  # by which `make machines` runs the tests for other processors than this one

Command = Callable[..., subprocess.CompletedProcess[bytes]]


def pytest_configure() -> None:
    """Let an example take as long as it takes: how fast the machine is at the moment is no fault."""
    settings.register_profile("patient", deadline=None)
    settings.load_profile("patient")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no worker is alone with one at the end."""
    counts = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path.name != "test_readme.py", -counts[item.path], item.path))


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the user's settings and caches out of the tests, and the tests out of them."""
    for name in list(os.environ):
        if name.startswith("MYGPT_") and name not in KEPT:
            monkeypatch.delenv(name)
    for name in ("NO_COLOR", "COLUMNS", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MYGPT_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Let small models be computed by one thread: more would only wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def shakespeare() -> Path:
    """Return the path of tiny Shakespeare, or skip where it is not at hand."""
    path = SHARED / "tinyshakespeare.txt"
    if not path.exists():
        pytest.skip("tiny Shakespeare is not beside this clone")
    return path


@pytest.fixture(scope="session")
def mygpt(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """Return a function that runs the installed command as a user does."""
    program = Path(sys.executable).with_name("mygpt")
    cache = tmp_path_factory.getbasetemp() / "cache"

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[bytes]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MYGPT_") or k in KEPT}
        environment |= {"MYGPT_CACHE_DIR": str(cache), "OMP_NUM_THREADS": "1"}
        environment.update(options.pop("env", {}))  # type: ignore[call-overload]
        command = [str(program), *map(str, arguments)]
        settings = {"stdin": subprocess.DEVNULL} if "input" not in options else {}
        return subprocess.run(  # type: ignore[call-overload, no-any-return]
            command, capture_output=True, check=False, timeout=300, env=environment, **settings, **options
        )

    return run


@pytest.fixture(scope="session")
def cycle_run(mygpt: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a tiny gpt2 on the cycle through the command, once; return the run's folder."""
    folder = tmp_path_factory.mktemp("cycle")
    (folder / "cycle.txt").write_text(CYCLE * 200, encoding="utf-8")
    done = mygpt(
        *("train", "cycle.txt", "--tokenizer", "char", "--arch", "gpt2", "--quiet", "--steps", 400),
        *("--layers", 2, "--heads", 2, "--width", 32, "--context", 48, "--batch-size", 8),
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr.decode()
    return folder / done.stdout.decode().strip()


@pytest.fixture
def tiny_dataset(tmp_path: Path) -> Dataset:
    """Return a character dataset of a few thousand tokens."""
    path = tmp_path / "tiny.txt"
    path.write_text("".join(f"{n} times {n} is {n * n}.\n" for n in range(200)), encoding="utf-8")
    return prepare(open_corpus([str(path)]), tokenizer="char", cache=tmp_path / "cache")


def tiny_config(**changes: object) -> TrainConfig:
    """Return the settings of a run that takes a second."""
    settings: dict[str, object] = {
        "vocab_size": None,
        "layers": 2,
        "heads": 2,
        "width": 16,
        "context": 16,
        "dropout": 0.0,
        "bpe_dropout": 0.0,
        "bias": False,
        "steps": 12,
        "batch_size": 4,
        "lr": 3e-3,
        "muon_lr": 0.02,
        "weight_decay": 0.1,
        "beta1": 0.9,
        "beta2": 0.95,
        "schedule": "linear",
        "warmup": 2,
        "decay_fraction": 0.5,
        "final_lr": 0.0,
        "eval_every": 5,
        "save_every": 4,
        "log_every": 3,
        "patience": 3,
        "dtype": "float32",
    }
    return TrainConfig(**(settings | changes))  # type: ignore[arg-type]
