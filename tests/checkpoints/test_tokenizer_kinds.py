"""Folders whose tokenizer begins a text or is run by Hugging Face's library, from opening to saving."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from mygpt_cli.backends.reference import ReferenceDecoder
from mygpt_cli.checkpoints import checkpoint, saving
from mygpt_cli.checkpoints.checkpoint import Checkpoint
from mygpt_cli.config.sampling import Sampling
from mygpt_cli.generation.stream import Sample, TextChunk, generate, read_prompt
from mygpt_cli.inspection.summary import summarise
from mygpt_cli.inspection.surprisal import encode, surprisal
from mygpt_cli.inspection.tokens import cut
from mygpt_cli.text.corpus import Chunk
from mygpt_cli.ui.tokens import render_tokens
from tests.conftest import Command
from tests.helpers.foreign import model_of
from tests.helpers.foreign_tokenizers import HARD, Maker, llama2, qwen2, random_strings, smollm2, train_text
from tests.helpers.rules import of_newer_transformers

PLAIN = "PreTrainedTokenizerFast"
MAKERS: dict[str, Maker] = {
    "llama 2": lambda folder: llama2(folder, tokenizer_class=PLAIN),
    "smollm2": smollm2,
    "qwen2": lambda folder: qwen2(folder, "gpt2", "Qwen2Tokenizer"),
}
CHAT = "{% for message in messages %}<|{{ message.role }}|> {{ message.content }}\n{% endfor %}"


def made(kind: str, folder: Path) -> Path:
    """Make a folder with a model of random weights and a tokenizer of this kind."""
    MAKERS[kind](folder)
    model_of(vocab_size=700, bos_token_id=1, eos_token_id=2).save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(CHAT, encoding="utf-8")
    (folder / "special_tokens_map.json").write_text('{"pad_token": "<unk>"}', encoding="utf-8")
    (folder / "added_tokens.json").write_text("{}", encoding="utf-8")
    return folder


def files(folder: Path) -> dict[str, bytes]:
    names = {path.name for path in folder.iterdir()} - {"config.json", "model.safetensors"}
    names -= {"generation_config.json", "training_state.json", "manifest.json", "optimizer.safetensors"}
    return {name: (folder / name).read_bytes() for name in names}


@pytest.mark.parametrize("kind", MAKERS)
def test_tokenizer_files_go_along_unchanged(kind: str, tmp_path: Path) -> None:
    folder, saved = made(kind, tmp_path / "model"), tmp_path / "saved"
    opened = checkpoint.load(folder)
    saving.save(saved, model=opened.model, tokenizer=opened.tokenizer, state={"step": 3})
    assert files(saved) == files(folder)
    ours = checkpoint.load(saved).tokenizer
    theirs, before = AutoTokenizer.from_pretrained(saved), AutoTokenizer.from_pretrained(folder)
    for text in [*random_strings(100), *HARD[:-1]]:
        ids = theirs(text)["input_ids"]
        assert ids == before(text)["input_ids"] == [*ours.prefix, *ours.encode(text)]
    said = [{"role": "user", "content": "hi"}]
    assert theirs.apply_chat_template(said, tokenize=False) == "<|user|> hi\n"


def test_fine_tuning_and_resuming_keep_them(mygpt: Command, tmp_path: Path) -> None:
    folder = made("llama 2", tmp_path / "model")
    (tmp_path / "text.txt").write_text(train_text(), encoding="utf-8")
    flags = ("--steps", 2, "--batch-size", 2, "--context", 32, "--quiet", "--out", tmp_path / "runs")
    done = mygpt("train", tmp_path / "text.txt", "--init-from", folder, *flags)
    assert done.returncode == 0, done.stderr.decode()
    (run,) = (tmp_path / "runs").iterdir()
    assert files(run / "last") == files(folder)
    done = mygpt("train", "--resume", run, "--steps", 4, "--quiet")
    assert done.returncode == 0, done.stderr.decode()
    assert files(run / "last") == files(folder)


@pytest.fixture
def llama(tmp_path: Path) -> Checkpoint:
    return checkpoint.load(made("llama 2", tmp_path / "model"))


def written(loaded: Checkpoint, prompt: str, seed: int, **settings: Any) -> tuple[str, tuple[int, ...]]:
    start = read_prompt(loaded.tokenizer, prompt, 64)
    sampling = Sampling(seed=seed, max_new_tokens=4, ignore_end=True, **settings)
    events = list(generate(ReferenceDecoder(loaded.model), loaded.tokenizer, [start], sampling))
    (sample,) = (event for event in events if isinstance(event, Sample))
    assert sample.text == "".join(event.text for event in events if isinstance(event, TextChunk))
    return sample.text, sample.ids


@of_newer_transformers
def test_prompts_begin_as_in_transformers(llama: Checkpoint) -> None:
    theirs = AutoTokenizer.from_pretrained(llama.folder)
    compared = 0
    for prompt in ("", "the cat", " sat"):
        start = read_prompt(llama.tokenizer, prompt, 64)
        assert list(start.ids) == theirs(prompt)["input_ids"]
        for seed in range(10):
            text, ids = written(llama, prompt, seed, **({"beams": 2} if seed == 9 else {}))
            tokens = [*start.ids[1:], *ids]
            bytes_ = llama.tokenizer.text_bytes(tokens)
            assert bytes_.startswith((prompt + text).encode("utf-8", "surrogateescape"))
            if "\ufffd" not in (whole := theirs.decode(tokens)):
                assert prompt + text == whole
                compared += 1
    assert compared > 8


def test_a_text_is_scored_from_its_first_word_on(llama: Checkpoint) -> None:
    text = "the cat sat on a mat\n"
    ids = encode(llama.tokenizer, [Chunk(text[:8], False), Chunk(text[8:], True)])
    theirs = AutoTokenizer.from_pretrained(llama.folder)
    assert ids.tolist() == theirs(text)["input_ids"]
    view = surprisal(llama.model, llama.tokenizer, ids)
    assert view.bytes == len(text)
    with torch.no_grad():
        logprobs = llama.model(torch.from_numpy(ids.astype("int64"))[None]).log_softmax(-1)[0]
    assert view.nats[0] == pytest.approx(-float(logprobs[0, ids[1]]), rel=1e-5)


def test_the_token_that_begins_a_text_is_shown(llama: Checkpoint) -> None:
    text = "the cat"
    view = cut(llama.tokenizer, encode(llama.tokenizer, [Chunk(text, True)]), top=2)
    assert (view.prefix, view.characters, view.size) == (1, len(text), len(text))
    shown = "\n".join(str(part) for part in render_tokens(view, 100) if not hasattr(part, "rows"))
    assert "the tokenizer has put '<s>' before them" in shown
    assert summarise(llama).tokenizer.prefix == (1,)


def test_a_view_names_what_begins_a_text(llama: Checkpoint, mygpt: Command) -> None:
    said = mygpt("inspect", llama.folder).stdout.decode()
    assert "each text begins with 1" in said
    tokens = json.loads(mygpt("inspect", llama.folder, "--tokens", "--prompt", "cat", "--json").stdout)
    assert tokens["tokens"][0]["text"] == "<s>"
    assert (tokens["characters"], tokens["bytes"], tokens["prefix"]) == (3, 3, 1)
    done = mygpt("inspect", llama.folder, "--life", "--prompt", "the cat sat")
    assert done.returncode == 0, done.stderr.decode()
