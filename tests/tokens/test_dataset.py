import errno
import json
import os
import re
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mygpt_cli.base.errors import ResourceError, TextError, UsageError
from mygpt_cli.base.locking import waited_lock
from mygpt_cli.text.corpus import open_corpus
from mygpt_cli.tokens import dataset as dataset_module
from mygpt_cli.tokens import token_files
from mygpt_cli.tokens.dataset import Batches, Dataset, batch, cache_folder, prepare, val_windows
from mygpt_cli.tokens.token_files import Done, open_tokens
from mygpt_cli.tokens.tokenizer import Tokenizer
from mygpt_cli.tokens.tokenizer_training import train_tokenizer

DATA = Path(__file__).parents[3] / "shared" / "data"
PROSE = "The quick brown fox; it's 1234 jumps! 中文。 Über die Lücke 😀\r\n\r\n\tand more.\n" * 40


def files(folder: Path, *contents: str) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    for i, content in enumerate(contents):
        (folder / f"{i}.txt").write_bytes(content.encode())
    return [str(folder / f"{i}.txt") for i in range(len(contents))]


def built(tmp_path: Path, *contents: str, tokenizer: str = "char", **settings: Any) -> Dataset:
    corpus = open_corpus(files(tmp_path / "text", *contents))
    return prepare(corpus, tokenizer=tokenizer, cache=tmp_path / "cache", **settings)


@pytest.fixture
def no_tokenizing(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def forbid() -> None:
        def fail(*_: object, **__: object) -> None:
            raise AssertionError("the text was tokenized again")

        monkeypatch.setattr(dataset_module, "write_tokens", fail)
        monkeypatch.setattr(dataset_module, "learn", fail)

    return forbid


# --- Tokens -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spec", "dtype"), [("char", np.uint8), ("bpe", np.uint16)])
def test_tokens_are_those_of_the_text(tmp_path: Path, spec: str, dtype: type) -> None:
    data = built(tmp_path, PROSE, tokenizer=spec)
    cut = int(len(PROSE) * 0.9)
    assert data.tokenizer.kind == spec
    assert data.train.dtype == data.val.dtype == dtype
    assert data.train.tolist() == data.tokenizer.encode(PROSE[:cut])
    assert data.val.tolist() == data.tokenizer.encode(PROSE[cut:])
    assert data.tokenizer.decode(data.train) + data.tokenizer.decode(data.val) == PROSE
    assert (data.train_characters, data.val_characters) == (cut, len(PROSE) - cut)
    assert data.train_bytes + data.val_bytes == len(PROSE.encode())
    assert data.tokenizer.end_of_text is None
    assert not data.train.flags.writeable


def test_large_vocabularies_take_four_bytes(tmp_path: Path) -> None:
    characters = "".join(map(chr, [*range(0x100, 0xD800), *range(0xE000, 0x13000)])) + "ab" * 5000
    data = built(tmp_path, characters)
    assert data.train.dtype == np.uint32
    assert data.tokenizer.decode(data.train) + data.tokenizer.decode(data.val) == characters


@pytest.mark.parametrize("spec", ["char", "bpe"])
def test_documents_end_with_the_special_token(tmp_path: Path, spec: str) -> None:
    data = built(tmp_path, PROSE, "second " * 30, "third", tokenizer=spec)
    end = data.tokenizer.end_of_text
    assert end == data.tokenizer.vocab_size - 1
    ids = [*data.train.tolist(), *data.val.tolist()]
    assert ids.count(end) == 3
    assert ids[-1] == end
    text = data.tokenizer.decode(ids)
    assert text == PROSE + "<|endoftext|>" + "second " * 30 + "<|endoftext|>third<|endoftext|>"


@pytest.mark.skipif(not DATA.is_dir(), reason="needs shared/data: tinyshakespeare and r50k_base")
def test_shakespeare_in_gpt2_has_its_known_length(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(DATA / "tiktoken"))
    corpus = open_corpus([str(DATA / "tinyshakespeare.txt")])
    for _ in range(2):
        data = prepare(corpus, tokenizer="gpt2", cache=tmp_path)
        # As nanoGPT's data/shakespeare/readme.md says.
        assert (len(data.train), len(data.val)) == (301_966, 36_059)
        assert (data.tokenizer.kind, data.tokenizer.vocab_size) == ("gpt2", 50257)
    characters = prepare(corpus, tokenizer="char", cache=tmp_path)
    # As its data/shakespeare_char/readme.md says.
    assert (len(characters.train), len(characters.val)) == (1_003_854, 111_540)
    assert characters.tokenizer.vocab_size == 65


def test_an_existing_tokenizer_is_used(tmp_path: Path) -> None:
    existing = train_tokenizer("bpe", ["some other text, quick and brown"], vocab_size=260)
    data = built(tmp_path, PROSE, existing=existing)
    assert data.tokenizer is existing
    assert data.train.tolist() == existing.encode(PROSE[: len(data.tokenizer.decode(data.train))])


def test_an_unknown_character_is_named_with_its_place_in_the_text(tmp_path: Path) -> None:
    existing = train_tokenizer("char", ["ab \n"])
    text = "ab " * 50_000 + "é" + " ab" * 50_000
    with pytest.raises(TextError, match=r"'é' \(U\+00E9\), character 150001 of the text"):
        built(tmp_path, text, existing=existing)
    text = "ab " * 50_000 + "é"
    with pytest.raises(TextError, match=r"'é' \(U\+00E9\), character 150001 of the text"):
        built(tmp_path, text, existing=existing)


def test_a_text_of_one_token_is_too_short(tmp_path: Path) -> None:
    with pytest.raises(TextError, match="the validation text is too short: 1 token"):
        built(tmp_path, "abc")
    assert not list((tmp_path / "cache").iterdir())


def test_wrong_tokenizers_are_usage_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'char'"):
        built(tmp_path, PROSE, tokenizer="chars")
    with pytest.raises(UsageError, match="at least 257"):
        built(tmp_path, PROSE, PROSE, tokenizer="bpe", vocab_size=256)


def learned() -> Tokenizer:
    return train_tokenizer("bpe", [PROSE], vocab_size=500)


TOKENIZER = learned()


# --- Cache --------------------------------------------------------------------------------------------------


def test_tokens_are_kept_and_found_again(tmp_path: Path, no_tokenizing: Callable[[], None]) -> None:
    first = built(tmp_path, PROSE, tokenizer="bpe", vocab_size=300)
    (folder,) = (tmp_path / "cache").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == [
        "meta.json",
        "tokenizer.json",
        "train.bin",
        "val.bin",
    ]
    no_tokenizing()
    second = built(tmp_path, PROSE, tokenizer="bpe", vocab_size=300)
    assert second.train.tolist() == first.train.tolist()
    assert second.tokenizer.to_json() == first.tokenizer.to_json()
    assert second.fingerprint == first.fingerprint


def test_other_settings_have_their_own_place(tmp_path: Path) -> None:
    built(tmp_path, PROSE)
    built(tmp_path, PROSE, tokenizer="bpe")
    built(tmp_path, PROSE, tokenizer="bpe", vocab_size=300)
    built(tmp_path, PROSE, existing=TOKENIZER)
    built(tmp_path, PROSE + "x")
    assert len(list((tmp_path / "cache").iterdir())) == 5


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


HARM: list[tuple[str, Callable[[Path], object]]] = [
    ("a flipped bit", lambda f: flip(f / "train.bin")),
    ("a flipped bit in the validation part", lambda f: flip(f / "val.bin")),
    ("cut short", lambda f: os.truncate(f / "train.bin", 100)),
    ("cut to an odd length", lambda f: os.truncate(f / "train.bin", 101)),
    ("empty", lambda f: os.truncate(f / "val.bin", 0)),
    ("a missing part", lambda f: (f / "val.bin").unlink()),
    ("another number", lambda f: edit(f / "meta.json", '"characters": 262', '"characters": 261')),
    ("no description", lambda f: (f / "meta.json").unlink()),
    ("half a description", lambda f: os.truncate(f / "meta.json", 10)),
    ("another description", lambda f: (f / "meta.json").write_text("{}", encoding="utf-8")),
    ("no tokenizer", lambda f: (f / "tokenizer.json").unlink()),
    ("longer than noted", lambda f: os.truncate(f / "train.bin", 10_000)),
    ("a flipped bit in the tokenizer", lambda f: flip(f / "tokenizer.json")),
    ("half a tokenizer", lambda f: os.truncate(f / "tokenizer.json", 1000)),
]


@pytest.mark.parametrize("harm", [harm[1] for harm in HARM], ids=[harm[0] for harm in HARM])
def test_a_damaged_cache_is_built_again(tmp_path: Path, harm: Callable[[Path], object]) -> None:
    first = built(tmp_path, PROSE, tokenizer="bpe").train.tolist()
    (folder,) = (tmp_path / "cache").iterdir()
    harm(folder)
    assert built(tmp_path, PROSE, tokenizer="bpe").train.tolist() == first
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [folder.name]


def test_tokens_that_nothing_has_used_for_a_month_make_room(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    place: dict[str, Path] = {}
    for name in ("unused", "read again", "being made", "kept by a stranger"):
        before = set(cache.glob("*"))
        built(tmp_path, PROSE + name)
        (place[name],) = set(cache.glob("*")) - before
    (place["kept by a stranger"] / "mine.txt").write_text("mine", encoding="utf-8")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "meta.json").write_text("mine", encoding="utf-8")
    if os.name != "nt":
        (cache / ("e" * 32)).symlink_to(outside)
    for folder in [*place.values(), outside]:
        os.utime(folder, (0, time.time() - 31 * 24 * 3600))
    built(tmp_path, PROSE + "read again")
    with waited_lock(place["being made"].with_suffix(".lock"), lambda: None):
        built(tmp_path, PROSE + "new")
    assert {name for name, folder in place.items() if folder.exists()} == place.keys() - {"unused"}
    assert len(list(place["kept by a stranger"].iterdir())) == 5
    assert (outside / "meta.json").exists()


def test_an_interruption_of_long_ago_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = built(tmp_path, PROSE).val.tolist()
    (folder,) = (tmp_path / "cache").iterdir()
    kept = (folder / "train.bin").stat().st_ino  # of another file when it is made anew
    os.truncate(folder / "val.bin", 1)
    os.utime(folder, (0, 0))
    monkeypatch.setattr(dataset_module, "learn", None)  # the vocabulary is there
    assert built(tmp_path, PROSE).val.tolist() == whole
    assert (folder / "train.bin").stat().st_ino == kept


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_cache_that_cannot_be_written_is_a_resource_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    corpus = open_corpus(files(tmp_path, PROSE))
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(ResourceError, match=re.escape(os.strerror(number).lower())) as caught:
        prepare(corpus, tokenizer="char", cache=tmp_path / "cache")
    assert "MYGPT_CACHE_DIR" in caught.value.hint


def test_progress_rises_to_one_in_every_stage(tmp_path: Path) -> None:
    seen: dict[str, list[float]] = {}
    built(
        tmp_path,
        PROSE * 100,
        tokenizer="bpe",
        progress=lambda stage, fraction: seen.setdefault(stage, []).append(fraction),
    )
    assert list(seen) == [
        "learning the vocabulary",
        "tokenizing the training text",
        "tokenizing the validation text",
    ]
    for fractions in seen.values():
        assert fractions == sorted(fractions)
        assert fractions[-1] == 1.0


def test_the_cache_folder_follows_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MYGPT_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache_folder() == tmp_path / ".cache" / "mygpt"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder() == Path("/x/mygpt")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == tmp_path / "Library" / "Caches" / "mygpt"
    monkeypatch.setattr(sys, "platform", "win32")
    assert cache_folder() == tmp_path / "AppData" / "Local" / "mygpt" / "cache"
    monkeypatch.setenv("LOCALAPPDATA", "/l")
    assert cache_folder() == Path("/l/mygpt/cache")
    monkeypatch.setenv("MYGPT_CACHE_DIR", "/c")
    assert cache_folder() == Path("/c")


def test_the_cache_folder_is_the_default_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MYGPT_CACHE_DIR", str(tmp_path / "mine"))
    prepare(open_corpus(files(tmp_path / "text", PROSE)), tokenizer="char")
    (folder,) = (tmp_path / "mine").iterdir()
    assert json.loads((folder / "meta.json").read_text(encoding="utf-8")).keys() == {
        *("tokenizer", "end", "train", "val", "crc32")
    }


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux how much of a file is in memory")
def test_of_many_tokens_only_a_batch_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def held() -> int:
        """Return how many kilobytes of the file count as memory of this process."""
        about = Path("/proc/self/smaps").read_text(encoding="utf-8").partition(str(path))[2]
        return int(re.findall(r"\nRss: +(\d+) kB", about)[0])

    monkeypatch.setattr(token_files, "LARGE", 1 << 20)
    path, tokens = tmp_path / "train.bin", np.arange(1 << 24, dtype=np.uint16)
    tokens.tofile(path)
    mapped = open_tokens(path, tokens.dtype, Done(1, tokens.size, zlib.crc32(tokens.data)))
    assert mapped is not None
    batches = Batches(mapped, seed=1, batch_size=4, context=64)
    for step in range(300):
        batches.batch(step)
    assert held() < 5_000
    for x, _ in val_windows(mapped, 1 << 16, 1):
        assert x[0, 1] == 1
    assert held() < 5_000
    mapped[: 1 << 23].sum()
    assert held() > 16_000


# --- Batches ------------------------------------------------------------------------------------------------


@given(st.integers(1, 20), st.integers(1, 9), st.integers(0, 400), st.integers(0, 2**63), st.integers(0, 50))
def test_a_batch_is_a_pure_function_of_seed_and_step(
    context: int, batch_size: int, extra: int, seed: int, step: int
) -> None:
    tokens = np.arange(context + 1 + extra, dtype=np.uint16)
    x, y = batch(tokens, seed=seed, step=step, batch_size=batch_size, context=context)
    assert x.dtype == y.dtype == np.int64
    assert x.shape == y.shape == (batch_size, context)
    assert (y == x + 1).all()
    assert (x == x[:, :1] + np.arange(context)).all()
    batches = Batches(tokens, seed=seed, batch_size=batch_size, context=context)
    for other in (step + 7, 0, step):
        again = batches.batch(other)
    assert (again[0] == x).all()
    assert (again[1] == y).all()


@given(st.integers(1, 20), st.integers(0, 400), st.integers(0, 1000), st.integers(0, 5), st.integers(1, 7))
def test_an_epoch_sees_no_token_twice(
    context: int, extra: int, seed: int, epoch: int, batch_size: int
) -> None:
    tokens = np.arange(context + 1 + extra, dtype=np.uint16)
    batches = Batches(tokens, seed=seed, batch_size=batch_size, context=context)
    count = batches.windows_per_epoch
    windows: list[np.ndarray] = []
    step = epoch * count // batch_size
    while (step * batch_size) < (epoch + 1) * count:
        x, _ = batches.batch(step)
        windows += [
            row for i, row in enumerate(x) if epoch * count <= step * batch_size + i < (epoch + 1) * count
        ]
        step += 1
    seen = np.concatenate(windows)
    assert len(windows) == count
    assert len(set(seen.tolist())) == len(seen)
    assert seen.max() - seen.min() + 1 == len(seen)
    assert len(tokens) - 1 - len(seen) < 2 * context


def test_epochs_and_seeds_differ_and_every_token_has_its_turn() -> None:
    tokens = np.arange(1000, dtype=np.uint16)
    batches = Batches(tokens, seed=1, batch_size=8, context=16)
    steps = range(2000)
    drawn = np.stack([batches.batch(step)[0] for step in steps])
    assert set(drawn.ravel().tolist()) == set(range(999))
    assert len({x.tobytes() for x in drawn}) > 1990
    other = Batches(tokens, seed=2, batch_size=8, context=16)
    assert (other.batch(0)[0] != drawn[0]).any()


def test_a_batch_may_take_several_epochs() -> None:
    x, _ = batch(np.arange(10, dtype=np.uint16), seed=0, step=3, batch_size=64, context=8)
    assert x.shape == (64, 8)
    assert set(x[:, 0].tolist()) == {0, 1}


def test_a_text_shorter_than_a_window_is_refused() -> None:
    with pytest.raises(TextError, match="window of 8 tokens does not fit into a text of 8") as caught:
        batch(np.zeros(8, np.uint16), seed=0, step=0, batch_size=1, context=8)
    assert "--context 7" in caught.value.hint


@given(st.integers(0, 200), st.integers(1, 20), st.integers(1, 8))
def test_validation_predicts_every_token_once(length: int, context: int, batch_size: int) -> None:
    tokens = np.arange(length, dtype=np.uint16)
    inputs: list[int] = []
    targets: list[int] = []
    for x, y in val_windows(tokens, context, batch_size):
        assert x.dtype == y.dtype == np.int64
        assert x.shape == y.shape
        assert x.shape[0] <= batch_size
        assert x.shape[1] <= context
        inputs += x.ravel().tolist()
        targets += y.ravel().tolist()
    assert inputs == list(range(length))[:-1]
    assert targets == list(range(length))[1:]
