"""What a guided tour shows: a token's life, and how the next one is chosen in several ways."""

from dataclasses import dataclass, replace

from mygpt_cli.backends.interfaces import Decoder
from mygpt_cli.config.sampling import Sampling
from mygpt_cli.generation.stream import Prompt
from mygpt_cli.inspection.beams import BeamsView, view_beams
from mygpt_cli.inspection.life import LifeView, view_life
from mygpt_cli.inspection.steps import StepView, view_steps
from mygpt_cli.inspection.temperatures import TemperaturesView, view_temperatures
from mygpt_cli.tokens.tokenizer import Tokenizer

CANDIDATES = 6  # that each choice lists
TEMPERATURES = (0.5, 1.0, 2.0)
TOP_K, TOP_P = 3, 0.9
BEAMS, BEAM_TOKENS = 3, 4


@dataclass(frozen=True)
class Tour:
    """A tour of the last token of a prompt.

    `tokens` are those of the prompt that the model sees. `life` follows the last of them and its choice of
    the next, at temperature 1 and without filters; the others show that same choice in another way. All draws
    are those of `seed`.
    """

    tokens: tuple[bytes, ...]
    seed: int
    life: LifeView
    temperatures: TemperaturesView
    top_k: StepView
    top_p: StepView
    beams: BeamsView


def take_tour(decoder: Decoder, tokenizer: Tokenizer, prompt: Prompt, seed: int) -> Tour:
    """Record all that the screens of a tour show."""
    plain = Sampling(seed=seed, temperature=1.0, max_new_tokens=1)
    (top_k,) = view_steps(decoder, tokenizer, prompt, replace(plain, top_k=TOP_K), top=CANDIDATES)
    (top_p,) = view_steps(decoder, tokenizer, prompt, replace(plain, top_p=TOP_P), top=CANDIDATES)
    return Tour(
        tokens=tuple(map(tokenizer.token_bytes, prompt.ids[-decoder.model.config.context :])),
        seed=seed,
        life=view_life(decoder, tokenizer, prompt, plain, top=CANDIDATES),
        temperatures=view_temperatures(decoder, tokenizer, prompt, plain, TEMPERATURES, top=CANDIDATES),
        top_k=top_k,
        top_p=top_p,
        beams=view_beams(
            decoder, tokenizer, prompt, Sampling(seed=seed, beams=BEAMS, max_new_tokens=BEAM_TOKENS)
        ),
    )
