"""The classic small recipe, as a reader of papers would write it in plain PyTorch; the yardstick of training.

gpt2 without biases, 4 layers, 4 heads, width 128, context 64, batch 12, characters, float32, AdamW 1e-3
falling by a cosine to 1e-4 over 2,000 steps, warm-up 100, betas (.9, .99), decay .1, clip 1, no dropout.
Windows are drawn at random. The text is split as `mygpt train` splits it, and every character that validates
is predicted once, in windows that do not overlap.
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mygpt_cli.text.corpus import open_corpus

LAYERS, HEADS, WIDTH, CONTEXT, BATCH = 4, 4, 128, 64, 12
STEPS, WARMUP, PEAK, FLOOR = 2000, 100, 1e-3, 1e-4


@dataclass(frozen=True)
class Result:
    """Seconds from start to end, and the loss over the whole validation tail."""

    seconds: float
    nats_per_character: float
    bits_per_byte: float
    steps_per_second: float


class Layer(nn.Module):
    """Attention and feed-forward, pre-norm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_1 = nn.LayerNorm(WIDTH, bias=False)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)
        self.norm_2 = nn.LayerNorm(WIDTH, bias=False)
        self.up = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.down = nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, C) to (B, T, C)."""
        b, t, c = x.shape
        heads = self.qkv(self.norm_1(x)).view(b, t, 3, HEADS, c // HEADS).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(heads[0], heads[1], heads[2], is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(b, t, c))
        added: Tensor = x + self.down(F.gelu(self.up(self.norm_2(x))))
        return added


class Classic(nn.Module):
    """A GPT with learned positions and a tied head."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, WIDTH)
        self.positions = nn.Embedding(CONTEXT, WIDTH)
        self.layers = nn.Sequential(*(Layer() for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                scale = 0.02 / math.sqrt(2 * LAYERS) if name.endswith(("out.weight", "down.weight")) else 0.02
                nn.init.normal_(parameter, std=scale)

    def forward(self, ids: Tensor) -> Tensor:
        """Map ids (B, T) to logits (B, T, V)."""
        x = self.tokens(ids) + self.positions.weight[: ids.size(1)]
        return F.linear(self.norm(self.layers(x)), self.tokens.weight)


def new_optimizer(model: Classic) -> torch.optim.AdamW:
    """Return AdamW that decays matrices only."""
    matrices = [p for p in model.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if p.ndim != 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=PEAK, betas=(0.9, 0.99))


def rate(step: int) -> float:
    """Return the learning rate of a step."""
    if step < WARMUP:
        return PEAK * (step + 1) / (WARMUP + 1)
    share = (step - WARMUP) / (STEPS - WARMUP)
    return FLOOR + 0.5 * (1 + math.cos(math.pi * share)) * (PEAK - FLOOR)


def train_step(model: Classic, optimizer: torch.optim.AdamW, data: Tensor, step: int) -> None:
    """Take one step on random windows."""
    starts = torch.randint(len(data) - CONTEXT, (BATCH,))
    x = torch.stack([data[i : i + CONTEXT] for i in starts.tolist()])
    y = torch.stack([data[i + 1 : i + 1 + CONTEXT] for i in starts.tolist()])
    for group in optimizer.param_groups:
        group["lr"] = rate(step)
    loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


@torch.no_grad()
def validate(model: Classic, data: Tensor) -> float:
    """Return the sum of nats over all characters but the first."""
    whole = (len(data) - 1) // CONTEXT * CONTEXT
    inputs, targets = data[:whole].view(-1, CONTEXT), data[1 : whole + 1].view(-1, CONTEXT)
    rest = (data[None, whole:-1], data[None, whole + 1 :])
    total = 0.0
    pairs = zip(torch.split(inputs, 256), torch.split(targets, 256), strict=True)
    for x, y in (*pairs, rest):
        if x.numel():
            total += F.cross_entropy(model(x).flatten(0, 1), y.flatten(), reduction="sum").item()
    return total


def run(path: Path, steps: int = STEPS) -> Result:
    """Train on a text file; the time includes reading it and the validation at the end."""
    started = time.perf_counter()
    torch.manual_seed(1337)
    text = path.read_text(encoding="utf-8")
    alphabet = {character: i for i, character in enumerate(sorted(set(text)))}
    ids = torch.tensor([alphabet[character] for character in text])
    cut = open_corpus([str(path)]).train.characters
    model = Classic(len(alphabet))
    optimizer = new_optimizer(model)
    loop = time.perf_counter()
    for step in range(steps):
        train_step(model, optimizer, ids[:cut], step)
    speed = steps / (time.perf_counter() - loop)
    nats = validate(model, ids[cut:])
    tail = text[cut:]
    return Result(
        seconds=time.perf_counter() - started,
        nats_per_character=nats / (len(tail) - 1),
        bits_per_byte=nats / math.log(2) / len(tail[1:].encode()),
        steps_per_second=speed,
    )
