"""Folders from elsewhere give what transformers gives: text, probabilities, losses, beams, and learning."""

import json
import math
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from mygpt_cli.backends.choice import compile_training, decoder_for
from mygpt_cli.backends.interfaces import Decoder
from mygpt_cli.backends.reference import ReferenceDecoder
from mygpt_cli.base.errors import CheckpointError, TextError
from mygpt_cli.checkpoints import checkpoint, layout, saving
from mygpt_cli.checkpoints.checkpoint import Checkpoint, frozen
from mygpt_cli.cli.app import run
from mygpt_cli.config.sampling import Sampling
from mygpt_cli.generation.stream import Sample, generate, read_prompt
from mygpt_cli.inspection.life import view_life
from mygpt_cli.inspection.steps import view_steps
from mygpt_cli.inspection.summary import summarise
from mygpt_cli.inspection.surprisal import surprisal
from mygpt_cli.inspection.trace import heads_of, logits_of, trace
from mygpt_cli.text.corpus import Chunk, open_corpus
from mygpt_cli.tokens.dataset import cache_folder, prepare
from mygpt_cli.tokens.loading import load_tokenizer
from mygpt_cli.tokens.token_files import texts
from tests.conftest import Command
from tests.helpers.foreign import (
    FOLDERS,
    PROMPT,
    SIZE,
    TEXT,
    edit,
    fast,
    in_a_cache,
    learned,
    plain,
    snapshot_of,
)
from tests.helpers.rules import FOLDERS_OF_TRANSFORMERS, marked, of_newer_transformers

Folder = Callable[[str], Path]
NEW = 30  # tokens to write
SAMPLES = [TEXT[:200], "a foo bar zebrazeb lead concat é中 flat on it\n\n  x", "", "  \t中文 cat"]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Return a function that makes a folder of a kind, once."""
    root = tmp_path_factory.mktemp("foreign")

    @cache
    def make(kind: str) -> Path:
        place = root / kind.replace(" ", "-")
        FOLDERS[kind](place)
        return place

    return make


@pytest.fixture
def here(capsysbinary: pytest.CaptureFixture[bytes]) -> Command:
    """Return a function that runs the command in this process, which saves the time of starting it."""

    def command(*arguments: object, **options: object) -> subprocess.CompletedProcess[bytes]:
        capsysbinary.readouterr()
        words = [*map(str, arguments)]
        code = run(words)
        captured = capsysbinary.readouterr()
        return subprocess.CompletedProcess(words, code, captured.out, captured.err)

    return command


def theirs_of(folder: Path) -> tuple[Any, Any]:
    """Return what transformers makes of a folder."""
    place = snapshot_of(folder)
    return AutoModelForCausalLM.from_pretrained(place).eval(), AutoTokenizer.from_pretrained(place)


def write(
    ours: Checkpoint, prompt: str = PROMPT, *, by: Decoder | None = None, top: int = 0, **given: Any
) -> list[Sample]:
    sampling = Sampling(seed=1, **({"max_new_tokens": NEW, "temperature": 0.0} | given))
    prompts = [read_prompt(ours.tokenizer, prompt, ours.config.context)]
    events = generate(by or ReferenceDecoder(ours.model), ours.tokenizer, prompts, sampling, top=top)
    return [event for event in events if isinstance(event, Sample)]


def continued(theirs: Any, ids: Tensor, **options: Any) -> list[list[int]]:
    """Return what transformers writes; a text is over at the first of the tokens that end it."""
    found = theirs.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=NEW,
        do_sample=False,
        pad_token_id=0,
        **options,
    )
    ends = theirs.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    rows = found[:, ids.size(1) :].tolist()
    stops = [next((n + 1 for n, token in enumerate(row) if token in ends), len(row)) for row in rows]
    return [row[:stop] for row, stop in zip(rows, stops, strict=True)]


@pytest.mark.parametrize("kind", FOLDERS_OF_TRANSFORMERS)
def test_a_folder_gives_what_transformers_gives(kind: str, folder: Folder) -> None:
    """Tokens, greedy text with and without compiled code, top-5 probabilities, beams, and bits per byte."""
    ours = checkpoint.load(folder(kind))
    frozen(ours.model)
    theirs, tokenizer = theirs_of(folder(kind))
    for text in SAMPLES:
        assert ours.tokenizer.encode(text) == tokenizer(text)["input_ids"]
    ids = torch.tensor([ours.tokenizer.encode(PROMPT)])
    (greedy,) = write(ours, top=5)
    assert [list(greedy.ids)] == continued(theirs, ids)
    with torch.no_grad():
        logits = theirs(torch.cat((ids, torch.tensor([greedy.ids])), dim=1)).logits[0, ids.size(1) - 1 : -1]
    best = logits.double().softmax(-1).topk(5)
    for row, likely in enumerate(greedy.top):
        assert [one.id for one in likely] == best.indices[row].tolist()
        assert [math.exp(one.logprob) for one in likely] == pytest.approx(best.values[row].tolist(), abs=1e-5)
    beams = write(ours, beams=3, num_samples=3, temperature=0.8)
    assert [list(beam.ids) for beam in beams] == continued(theirs, ids, num_beams=3, num_return_sequences=3)
    assert bits_per_byte(ours) == pytest.approx(their_bits_per_byte(theirs, tokenizer), rel=1e-5)
    (compiled,) = write(ours, by=decoder_for(ours.model, "none", cache_folder() / "kernels"))
    assert compiled.ids == greedy.ids


def bits_per_byte(ours: Checkpoint) -> float:
    ids = ours.tokenizer.encode_array(TEXT)
    return surprisal(ours.model, ours.tokenizer, ids).bits_per_byte


@torch.no_grad()
def their_bits_per_byte(theirs: Any, tokenizer: Any) -> float:
    ids, context = torch.tensor(tokenizer(TEXT)["input_ids"]), theirs.config.max_position_embeddings
    nats = 0.0
    for start in range(0, len(ids) - 1, context):
        targets = ids[start + 1 : start + 1 + context]
        logits = theirs(ids[None, start : start + len(targets)]).logits[0]
        nats += float(F.cross_entropy(logits.double(), targets, reduction="sum"))
    first = len(TEXT[:4].encode())
    assert ids[0] in tokenizer(TEXT[:4])["input_ids"]
    return nats / math.log(2) / (len(TEXT.encode()) - first)


@pytest.mark.parametrize("kind", FOLDERS_OF_TRANSFORMERS)
def test_a_folder_learns_as_in_transformers_and_goes_back(kind: str, folder: Folder, tmp_path: Path) -> None:
    """The same losses and the same steps as of transformers' model, and what is saved is the same there."""
    ours = checkpoint.load(folder(kind))
    compilation = compile_training("auto", torch.device("cpu"), torch.float32, cache_folder() / "kernels")
    backend = compilation.backend(ours.model)
    theirs, tokenizer = theirs_of(folder(kind))
    ids = torch.tensor(ours.tokenizer.encode(TEXT)[: 2 * 33]).view(2, 33)
    x, y = ids[:, :-1], ids[:, 1:]
    for _ in range(3):
        expected = F.cross_entropy(theirs(x).logits.flatten(0, 1), y.flatten())
        expected.backward()  # type: ignore[no-untyped-call]
        assert float(backend.accumulate_gradients(x, y)) == pytest.approx(float(expected.detach()), rel=1e-4)
        for model in (ours.model, theirs):
            torch.optim.SGD(model.parameters(), lr=0.02).step()
            model.zero_grad()
    saving.save(tmp_path / "tuned", model=ours.model, tokenizer=ours.tokenizer, state={"step": 3})
    again, their_tokenizer = theirs_of(tmp_path / "tuned")
    with torch.no_grad():
        torch.testing.assert_close(again(x).logits, theirs(x).logits, atol=2e-3, rtol=1e-3)
        torch.testing.assert_close(again(x).logits, ours.model(x), atol=1e-4, rtol=1e-4)
    for text in SAMPLES:
        assert their_tokenizer(text)["input_ids"] == tokenizer(text)["input_ids"]
    for name in (
        "activation_function",
        "hidden_act",
        "scale_attn_by_inverse_layer_idx",
        "scale_attn_weights",
    ):
        assert getattr(again.config, name, None) == getattr(theirs.config, name, None)
    back = checkpoint.load(tmp_path / "tuned")
    assert (back.tokenizer.ends, back.tokenizer.begin) == (ours.tokenizer.ends, ours.tokenizer.begin)
    assert back.config == ours.config
    prompt = torch.tensor([back.tokenizer.encode(PROMPT)])
    assert [list(sample.ids) for sample in write(back)] == continued(again, prompt)


@pytest.mark.parametrize(
    "kind",
    [
        *(
            "silu",
            "gelu_fast",
            "scores by layer",
            "scores not by width",
            "another head",
            "nanochat with silu",
        ),
        *("llama in several files", "qwen3"),
    ],
)
def test_inspection_sees_what_transformers_computes(kind: str, folder: Folder) -> None:
    ours = checkpoint.load(folder(kind))
    theirs = AutoModelForCausalLM.from_pretrained(folder(kind), attn_implementation="eager").eval()
    prompt = read_prompt(ours.tokenizer, TEXT[:60], ours.config.context)
    with torch.no_grad():
        out = theirs(torch.tensor([prompt.ids]), output_hidden_states=True, output_attentions=True)
    found = trace(frozen(ours.model), prompt.ids)
    for stream, hidden in zip(found.streams[:-1], out.hidden_states[:-1], strict=True):
        torch.testing.assert_close(stream, hidden[0], atol=1e-4, rtol=1e-4)
    for layer, weights in enumerate(out.attentions):
        torch.testing.assert_close(heads_of(found, layer).weights, weights[0], atol=1e-5, rtol=0)
    logits = logits_of(found, found.streams[-1])
    torch.testing.assert_close(logits, out.logits[0].double(), atol=1e-3, rtol=1e-4)
    units: list[Tensor] = []
    mlps = [
        layer.mlp
        for layer in (theirs.transformer.h if hasattr(theirs, "transformer") else theirs.model.layers)
    ]
    for mlp in mlps:
        (narrow,) = (each for name, each in mlp.named_children() if name in ("c_proj", "fc2", "down_proj"))
        narrow.register_forward_pre_hook(lambda _, inputs: units.append(inputs[0][0, -1]))
    theirs(torch.tensor([prompt.ids]))
    view = view_life(ReferenceDecoder(ours.model), ours.tokenizer, prompt, Sampling(seed=1))
    shown = [stage for stage in view.stages if stage.name == "units"]
    for stage, expected in zip(shown, units, strict=True):
        assert stage.values == pytest.approx(expected[:8].tolist(), abs=1e-4)
        assert stage.active == int((expected > 0).sum())
    assert view.difference < 1e-4


# --- Tokens -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    marked(["added tokens", "vocab.json with special tokens", "merges.txt with CRLF", "a pad token"]),
)
def test_ids_are_those_of_auto_tokenizer(kind: str, folder: Folder) -> None:
    ours, theirs = checkpoint.load(folder(kind)).tokenizer, AutoTokenizer.from_pretrained(folder(kind))
    pieces = st.sampled_from(
        ["cat", "é中", "zeb", "ra", "foo", " bar", "at", " on", " lead", "\n", "é", "The"]
    )
    plain_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    special = ["<", "[PAD]"]  # special tokens in a text are plain text here

    @settings(max_examples=150)
    @given(st.lists(pieces | plain_text).map("".join).filter(lambda t: not any(s in t for s in special)))
    def check(text: str) -> None:
        ids = ours.encode(text)
        assert ids == theirs(text)["input_ids"]
        assert ours.decode(ids) == text

    check()


def test_added_tokens_are_not_cut_where_a_long_text_is(folder: Folder) -> None:
    tokenizer = checkpoint.load(folder("added tokens")).tokenizer

    @settings(max_examples=100)
    @given(
        # Words begin with a space, in front of which a text may be cut.
        st.lists(st.sampled_from(["foo bar", "zebra", " lead", "at on", " x", " the"]), max_size=60).map(
            "".join
        ),
        st.integers(8, 30),
        st.integers(1, 40),
    )
    def check(text: str, size: int, chunk: int) -> None:
        chunks = [Chunk(text[n : n + chunk], False) for n in range(0, len(text), chunk)]
        pieces = [piece.text for piece in texts(chunks, size, tokenizer)]
        assert "".join(pieces) == text
        assert [token for piece in pieces for token in tokenizer.encode(piece)] == tokenizer.encode(text)

    check()


def test_tokens_that_the_model_does_not_have_are_never_used(folder: Folder, here: Command) -> None:
    place = folder("a pad token")
    told = here("inspect", place)
    assert "the model does not have '[PAD]'" in told.stdout.decode()
    done = here("sample", place, "--prompt", "a cat [PAD]")
    assert done.returncode == 4
    assert "'[PAD]', a token that the model does not have" in done.stderr.decode()
    done = here("sample", place, "--prompt", "a cat", "--logit-bias", f"{SIZE}=5")
    assert done.returncode == 2
    assert f"there is no token {SIZE}" in done.stderr.decode()
    ours = checkpoint.load(place)
    assert max(write(ours, temperature=50.0, max_new_tokens=200, ignore_end=True)[0].ids) < SIZE


def test_an_ordinary_token_that_the_model_does_not_have_is_an_error_in_any_text(tmp_path: Path) -> None:
    tokenizer = fast()
    tokenizer.add_tokens(["zeb"])
    plain(tmp_path, tokenizer)
    ours = checkpoint.load(tmp_path).tokenizer
    assert ours.missing == {"zeb": SIZE}
    with pytest.raises(TextError, match="'zeb', a token that the model does not have"):
        ours.encode("a zebra")


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    plain(tmp_path, vocab_size=SIZE - 9)
    with pytest.raises(CheckpointError, match=f"the tokenizer has {SIZE} tokens, the model only {SIZE - 9}"):
        checkpoint.load(tmp_path)


def test_a_space_in_front_is_refused_wherever_it_is_asked_for(folder: Folder, tmp_path: Path) -> None:
    shutil.copytree(folder("vocab.json with special tokens"), tmp_path / "model")
    (tmp_path / "model" / "tokenizer_config.json").write_text('{"add_prefix_space": true}', encoding="utf-8")
    with pytest.raises(CheckpointError, match="a space in front of the text"):
        checkpoint.load(tmp_path / "model")


@of_newer_transformers
def test_added_tokens_beside_vocab_and_merges_are_special_where_they_have_a_role(tmp_path: Path) -> None:
    FOLDERS["vocab.json with special tokens"](tmp_path)
    (tmp_path / "added_tokens.json").write_text(
        json.dumps({"zeb": SIZE, "[PAD]": SIZE + 1}), encoding="utf-8"
    )
    (tmp_path / "special_tokens_map.json").write_text(
        json.dumps(
            {"pad_token": {"content": "[PAD]"}, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<s>"}
        ),
        encoding="utf-8",
    )
    edit(tmp_path / "config.json", vocab_size=SIZE + 2)
    ours, theirs = load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert ours.encode("a zebra") == theirs("a zebra")["input_ids"]
    assert dict(ours.vocabulary.specials) == {"<s>": 0, "</s>": 2, "[PAD]": SIZE + 1}
    assert ours.decode(ours.encode("a zebra [PAD] <s>")) == "a zebra [PAD] <s>"


def test_padding_may_be_drawn_and_has_no_text(folder: Folder, here: Command, tmp_path: Path) -> None:
    place = shutil.copytree(folder("a padded vocabulary"), tmp_path / "padded")
    ours = checkpoint.load(place)
    (sample,) = write(ours, temperature=50.0, max_new_tokens=300, ignore_end=True)
    assert max(sample.ids) >= SIZE
    assert sample.text.encode("utf-8", "surrogateescape") in ours.tokenizer.decode_bytes(sample.ids)
    told = here("inspect", place).stdout.decode()
    assert f"{SIZE} tokens" in told
    assert "the model has 17 more ids" in told
    views = list(
        view_steps(
            ReferenceDecoder(ours.model),
            ours.tokenizer,
            read_prompt(ours.tokenizer, "a", 64),
            Sampling(seed=1),
        )
    )
    assert all(len(view.candidates) + view.others.count == SIZE + 17 for view in views)


# --- The end of a text --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("generation", "config", "ends"),
    [
        ({"eos_token_id": [3, 4]}, 7, (3, 4)),
        ({"eos_token_id": 3}, 7, (3,)),
        ({"eos_token_id": None}, 7, ()),
        ({}, 7, ()),
        (None, [7, 8], (7, 8)),
        (None, None, ()),
        ({"eos_token_id": [5, SIZE, -1, 5]}, 7, (5,)),
    ],
)
def test_the_tokens_that_end_a_text_are_those_of_transformers(
    generation: dict[str, Any] | None, config: Any, ends: tuple[int, ...], folder: Folder, tmp_path: Path
) -> None:
    place = shutil.copytree(folder("plain"), tmp_path / "model")
    edit(place / "config.json", eos_token_id=config)
    path = place / "generation_config.json"
    path.unlink() if generation is None else path.write_text(json.dumps(generation), encoding="utf-8")
    assert checkpoint.load(place).tokenizer.ends == ends
    theirs = AutoModelForCausalLM.from_pretrained(place).generation_config.eos_token_id
    theirs = theirs if isinstance(theirs, list) else [] if theirs is None else [theirs]
    assert [token for token in dict.fromkeys(theirs) if 0 <= token < SIZE] == list(ends)


@pytest.mark.parametrize("wrong", ["a", True, 1.5, [[3]], {"a": 1}, [None]])
def test_an_end_that_is_no_id_is_refused(wrong: Any, folder: Folder, tmp_path: Path) -> None:
    place = shutil.copytree(folder("plain"), tmp_path / "model")
    (place / "generation_config.json").write_text(json.dumps({"eos_token_id": wrong}), encoding="utf-8")
    with pytest.raises(CheckpointError, match="eos_token_id must be the id of a token or a list of ids"):
        checkpoint.load(place)


def test_every_end_ends_a_text_and_filters_concern_them_all(folder: Folder, here: Command) -> None:
    place = folder("several ends")
    ours = checkpoint.load(place)
    ends = ours.tokenizer.ends
    assert len(ends) == 3
    (sample,) = write(ours)
    assert sample.reason == "end_of_text"
    assert 1 < len(sample.ids) < 12
    assert sample.ids[-1] in ends
    (view,) = [view for view in steps(ours) if view.picked.id in ends]
    assert view.index == len(sample.ids)
    (least,) = write(ours, min_new_tokens=12)
    assert not set(least.ids[:12]) & set(ends)
    (ignored,) = write(ours, ignore_end=True)
    assert (ignored.reason, set(ignored.ids) & set(ends)) == ("length", set())
    told = here("inspect", place).stdout.decode()
    assert f"each of {ends[0]}, {ends[1]} and {ends[2]} ends a text" in " ".join(told.split())
    facts = json.loads(here("inspect", place, "--json").stdout)["tokenizer"]
    assert facts["ends"] == list(ends)
    flags = ("--temperature", 0, "--quantize", "none", "--prompt", PROMPT)
    assert (
        PROMPT.encode() + sample.text.encode("utf-8", "surrogateescape")
        == here("sample", place, *flags).stdout
    )


def steps(ours: Checkpoint) -> Iterator[Any]:
    prompt = read_prompt(ours.tokenizer, PROMPT, ours.config.context)
    return view_steps(
        ReferenceDecoder(ours.model),
        ours.tokenizer,
        prompt,
        Sampling(seed=1, temperature=0.0, max_new_tokens=NEW),
    )


def test_fine_tuning_through_the_command_keeps_what_a_folder_is(
    folder: Folder, mygpt: Command, tmp_path: Path
) -> None:
    (tmp_path / "one.txt").write_text(TEXT, encoding="utf-8")
    flags = ("--steps", 2, "--batch-size", 2, "--context", 32, "--quiet", "--out", tmp_path / "runs")
    place = folder("several ends")
    done = mygpt("train", tmp_path / "one.txt", "--init-from", place, *flags)
    assert done.returncode == 0, done.stderr.decode()
    (best,) = (tmp_path / "runs").glob("*/best")
    (theirs, tokenizer), (source, _) = theirs_of(best), theirs_of(place)
    assert theirs.generation_config.eos_token_id == [*checkpoint.load(place).tokenizer.ends]
    ids = torch.tensor([tokenizer(PROMPT)["input_ids"]])
    assert not torch.equal(theirs(ids).logits, source(ids).logits)
    greedy = ("--temperature", 0, "--quantize", "none", "--max-new-tokens", NEW, "--json")
    done = mygpt("sample", best, "--prompt", PROMPT, *greedy)
    assert [json.loads(done.stdout.splitlines()[0])["ids"]] == continued(theirs, ids)


def test_files_of_text_are_parted_by_the_first_of_the_ends(folder: Folder, tmp_path: Path) -> None:
    """Also where another tokenizer with equal files, and another end, has left its tokens."""
    for name in ("one.txt", "two.txt"):
        (tmp_path / name).write_text(TEXT, encoding="utf-8")
    corpus = open_corpus([str(tmp_path / "one.txt"), str(tmp_path / "two.txt")])
    for kind in ("plain", "several ends"):
        tokenizer = checkpoint.load(folder(kind)).tokenizer
        data = prepare(corpus, tokenizer="bpe", cache=tmp_path / "cache", existing=tokenizer)
        end, text = tokenizer.end_of_text, tokenizer.encode(TEXT)
        assert end is not None and end == tokenizer.ends[0]
        assert data.train[: len(text) + 1].tolist() == [*text, end]


# --- Files --------------------------------------------------------------------------------------------------


def hostile(index: dict[str, Any], place: Path) -> dict[str, Callable[[], object]]:
    """Return ways to spoil an index."""
    names = index["weight_map"]
    first = next(iter(names))
    file = names[first]
    other = next(one for one in names.values() if one != file)
    return {
        "'weight_map'": lambda: index.pop("weight_map"),
        "no plain name": lambda: names.update({first: f"../{place.name}/{file}"}),
        "plain name that ends": lambda: names.update({first: "/etc/passwd"}),
        "no plain name that": lambda: names.update({first: [file]}),
        "plain name": lambda: names.update({first: "a" * 300 + ".safetensors"}),
        "is missing": lambda: names.update({first: "another.safetensors"}),
        "also has|lacks": lambda: names.update({first: other}),
        "also has": lambda: names.pop(first),
        "lacks 'x'": lambda: names.update({"x": file}),
        "more than 1,000 files": lambda: names.update({f"x{n}": f"{n}.safetensors" for n in range(1001)}),
    }


@pytest.mark.parametrize("message", list(hostile({"weight_map": {"a": "1", "b": "2"}}, Path("x"))))
def test_a_hostile_index_is_refused_before_any_weights_are_read(
    message: str, folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = shutil.copytree(folder("several files"), tmp_path / "model")
    path = place / layout.INDEX
    index = json.loads(path.read_text(encoding="utf-8"))
    hostile(index, place)[message]()
    path.write_text(json.dumps(index), encoding="utf-8")
    monkeypatch.setattr(checkpoint, "StoredTensors", lambda entries: pytest.fail("weights were read"))
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(place)


def test_headers_of_many_files_are_bounded_together(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = shutil.copytree(folder("several files"), tmp_path / "model")
    lengths = [int.from_bytes(path.read_bytes()[:8], "little") for path in place.glob("model-*")]
    monkeypatch.setattr(
        "mygpt_cli.checkpoints.tensor_files.LIMIT", max(lengths[0], (place / layout.INDEX).stat().st_size)
    )
    if sum(lengths) <= (place / layout.INDEX).stat().st_size:
        pytest.fail("the folder has too few files to show it")
    with pytest.raises(CheckpointError, match="its header cannot be"):
        checkpoint.load(place)


def test_a_file_of_several_that_is_damaged_or_a_link_is_refused(folder: Folder, tmp_path: Path) -> None:
    place = shutil.copytree(folder("several files"), tmp_path / "model")
    part = sorted(place.glob("model-*"))[1]
    whole = part.read_bytes()
    part.write_bytes(whole[:-1])
    with pytest.raises(CheckpointError, match=part.name):
        checkpoint.load(place)
    part.unlink()
    (tmp_path / "elsewhere").write_bytes(whole)
    part.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="is a link out of the checkpoint"):
        checkpoint.load(place)


def test_a_manifest_may_vouch_for_several_files(folder: Folder, tmp_path: Path) -> None:
    place = shutil.copytree(folder("several files"), tmp_path / "model")
    files = {
        path.name: {"size": path.stat().st_size, "sha256": layout.sha256(path)} for path in place.iterdir()
    }
    (place / layout.MANIFEST).write_text(json.dumps({"format": 1, "files": files}), encoding="utf-8")
    checkpoint.load(place)
    part = sorted(place.glob("model-*"))[0]
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match="is damaged"):
        checkpoint.load(place)


def test_names_that_contradict_are_refused(folder: Folder, tmp_path: Path) -> None:
    place = shutil.copytree(folder("generic names"), tmp_path / "model")
    edit(place / "config.json", n_embd=32)
    checkpoint.load(place)
    edit(place / "config.json", n_embd=64)
    with pytest.raises(CheckpointError, match="n_embd is 64, and hidden_size, its other name, is 32"):
        checkpoint.load(place)


def test_another_head_is_told(folder: Folder, here: Command, tmp_path: Path) -> None:
    done = here("sample", folder("another head"), "--prompt", "a", "--max-new-tokens", 1)
    assert "the weights hold a different head; it is used, as in transformers" in done.stderr.decode()
    plain(tmp_path / "tied")
    assert checkpoint.load(tmp_path / "tied").notes == ()


def test_a_cache_opens_at_what_main_names_or_else_the_newest(tmp_path: Path, here: Command) -> None:
    place = tmp_path / "models--someone--something"
    in_a_cache(place)
    main = place / "refs" / "main"
    assert checkpoint.load(place).folder == place / "snapshots" / ("0" * 40)
    done = here("sample", place, "--prompt", "a", "--max-new-tokens", 1)
    assert f"using {place / 'snapshots' / ('0' * 40)}" in done.stderr.decode()
    for wrong in ("../../../etc", "f" * 40, ""):
        main.write_text(wrong, encoding="utf-8")
        assert checkpoint.load(place).folder == place / "snapshots" / ("1" * 40)
    main.unlink()
    assert checkpoint.load(place).folder == place / "snapshots" / ("1" * 40)
    for snapshot in (place / "snapshots").iterdir():
        shutil.rmtree(snapshot)
    with pytest.raises(CheckpointError, match=r"no snapshot in .* holds a model"):
        checkpoint.load(place)


def test_what_a_folder_is_is_said(folder: Folder) -> None:
    facts = summarise(checkpoint.load(folder("a padded vocabulary"))).tokenizer
    assert (facts.vocab_size, facts.padding, facts.missing, facts.ends) == (SIZE, 17, (), (0,))
    facts = summarise(checkpoint.load(folder("a pad token"))).tokenizer
    assert (facts.vocab_size, facts.padding, facts.missing) == (SIZE + 1, 0, ("[PAD]",))
    assert learned().get_vocab_size() == SIZE
