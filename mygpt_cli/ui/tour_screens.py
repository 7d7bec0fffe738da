"""The screens of the guided tour: one for each of the twelve stages, and three more ways to choose a token.

They are data: a title, this token's own numbers, two sentences, a question and its answer. Words in
braces are filled in from `facts`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import RenderableType

from mygpt_cli.ui.columns import percent
from mygpt_cli.ui.text import quoted, visible
from mygpt_cli.ui.tour_pictures import PICTURES, kept, looking_head, stage_of
from mygpt_cli.ui.units import count, count_of

if TYPE_CHECKING:
    from mygpt_cli.inspection.life import LifeView
    from mygpt_cli.inspection.tour import Tour

STAGES = 12


@dataclass(frozen=True)
class Stop:
    """A screen of the tour; its picture is that of the same place in PICTURES."""

    title: str
    numbers: Mapping[str, str]
    text: str
    question: str
    answer: str


STOPS = (
    Stop(
        "text",
        {"tokens of the text": "{length}", "we follow": "{token}"},
        "A language model continues a text: it reads all of it and says what could come next. It reads"
        " the text in pieces, called tokens, and we follow the last one through the model.",
        "Does the model see letters, or words?",
        "{letters_or_words}",
    ),
    Stop(
        "bytes",
        {"bytes": "{bytes}", "in hexadecimal": "{hex}"},
        "A computer stores text as bytes, numbers from 0 to 255. {cut}",
        "{other_tokens}",
        "{their_effect}",
    ),
    Stop(
        "token ids",
        {"id": "{id}", "vocabulary": "{vocabulary} tokens"},
        "Every token of the vocabulary has a number, its id. That number is all that the model is given: it"
        " does not see how the token is spelled.",
        "Do tokens with neighbouring ids mean similar things?",
        "No. The id is only a name; what is similar, the model learns in the next stage.",
    ),
    Stop(
        "embedding",
        {"numbers in the vector": "{width}", "length of the vector": "{embedding}"},
        "The id picks a row of a table: a vector of {width} numbers, which training has found. Tokens"
        " that are used alike tend to get vectors that point the same way.",
        "Where do these numbers come from?",
        "They began as random numbers, or little better. Each training step changed them a little, so that"
        " the right next token became more probable.",
    ),
    Stop(
        "positions",
        {"position": "{position} of {length}"},
        "Attention by itself does not know the order of the tokens. {placed}",
        "What would be lost without positions?",
        "'a dog bit a man' and 'a man bit a dog' have the same tokens: the model could hardly tell them"
        " apart.",
    ),
    Stop(
        "queries, keys, values",
        {"layers": "{layers}", "heads in each": "{heads}"},
        "In each layer, every head makes three vectors of {head_width} numbers from the token. The query says"
        " what it looks for, the key what it can be found by, and the value what it hands over.",
        "Why three vectors, and not one?",
        "What a token looks for is seldom what it is found by: a closing bracket may look for the opening"
        " one, but is itself found as a closing one.",
    ),
    Stop(
        "attention",
        {"head": "layer {look_layer}, head {look_head}", "largest weight": "{weight} on {looked_at}"},
        "A head compares the token's query with the keys of the tokens so far, and softmax turns the"
        " scores into weights that add up to 1. The values, mixed by these weights, are added to the"
        " token's vector.",
        "Why does a token not look at those that follow it?",
        "When the model writes, they are not there yet. In training they are hidden, as they would give"
        " the answer away.",
    ),
    Stop(
        "feed-forward",
        {"units in layer 1": "{units}", "of these above 0": "{active} ({active_share})"},
        "Now each token goes alone through a wide layer of {units} units, and the result is added to its"
        " vector. Attention and feed-forward repeat in every layer (here {layers}).",
        "Why is the result added, instead of taking the vector's place?",
        "So nothing is lost: the vector, called the residual stream, carries what each layer found to all"
        " that follow, and training reaches the first layers as well as the last.",
    ),
    Stop(
        "final norm",
        {"length before": "{before_norm}", "length after": "{after_norm}"},
        "After the last layer the vector is brought to a standard scale. What counts from here on is"
        " where it points, not how long it has become.",
        "The model has a vector for every token: why use only that of the last?",
        "Each vector predicts the token after its own. Only after the last one is there something to"
        " predict.",
    ),
    Stop(
        "logits",
        {"scores": "{vocabulary}", "the highest": "{top_logit} for {top}"},
        "The vector is compared with one vector for every token of the vocabulary. The result is a score"
        " for each, called its logit: the higher, the better it fits.",
        "What does a logit of 0 mean?",
        "By itself, nothing. Only differences count: 3 more on every logit would change no probability.",
    ),
    Stop(
        "softmax",
        {
            "the most probable": "{top} with {top_share}",
            "uncertainty": "as among {choices} tokens",
        },
        "Softmax turns the scores into probabilities: e to the power of each, divided by the sum of all."
        " They add up to 1, and a logit that is higher by 1 makes a token 2.7 times as probable.",
        "Is the most probable token the right one?",
        "Often several would be right. The probabilities say how often each followed such a text in"
        " training, as far as the model has learned it.",
    ),
    Stop(
        "choice",
        {
            "drawn with": "temperature 1, seed {seed}",
            "random number": "{draw}",
            "it falls on": "{picked}",
        },
        "All tokens are laid end to end from 0 to 1, each as wide as it is probable, and a random number"
        " falls on one of them. The token joins the text, and the twelve stages begin again with it.",
        "Why does the same seed give the same text?",
        "The random numbers are computed from the seed and the place in the text: the same seed gives the"
        " same numbers, and so the same tokens.",
    ),
    Stop(
        "temperature",
        {"{top} at 0.5, 1 and 2": "{top_by_temperature}"},
        "Before softmax, the logits can be divided by a temperature. Below 1 the probable tokens become"
        " more probable; above 1 all become more alike, and the text bolder.",
        "What is temperature 0?",
        "The most probable token is always taken. That is safe and the same each time, but it tends to"
        " repeat itself.",
    ),
    Stop(
        "top-k and top-p",
        {"top-k 3 keeps": "{kept_k}", "top-p 0.9 keeps": "{kept_p}"},
        "Top-k keeps the k most probable tokens. Top-p keeps the fewest tokens whose probabilities add up"
        " to p; all others are cut, so that no odd one is drawn from the long tail.",
        "Which of the two adapts to how sure the model is?",
        "Top-p. Where one token has 95%, it keeps that one alone; where many would do, it keeps many.",
    ),
    Stop(
        "beam search",
        {"best text": "{best_text}", "its score": "{best_score}"},
        "Beam search draws nothing: it follows several texts at once, here 3, and keeps those with the"
        " highest sum of log-probabilities. The tree shows for each text this sum divided by its number of"
        " tokens: the score that decides in the end, so that long texts do not lose for being long.",
        "Is the most probable text the best one?",
        "For a translation, often. For a story it is dull: people seldom write the most probable word"
        " each time.",
    ),
)


def facts(tour: "Tour") -> dict[str, str]:
    """Return this token's own numbers by name, as they are shown."""
    life, choice = tour.life, tour.life.choice
    top, head = choice.candidates[0], looking_head(life)
    most = max(head.attended, key=lambda at: at.weight)
    found, units = tour.beams.found[0], stage_of(life, 8, "units")
    last_stream = stage_of(life, 8, "residual", life.layers)
    (top_shares,) = [one.probabilities for one in tour.temperatures.candidates if one.id == top.id]
    return {
        "length": count(life.length),
        "position": count(life.position),
        "token": visible(life.token),
        "bytes": count(len(life.token)),
        "hex": life.token.hex(" ").upper() or "none",
        "cut": _cut(life),
        **_tokens_of(life),
        "id": count(life.id),
        "vocabulary": count(life.vocab_size),
        "width": count(stage_of(life, 4, "embedding").shape[0]),
        "embedding": f"{stage_of(life, 4, 'embedding').norm:.2f}",
        "placed": _placed(life),
        "layers": count(life.layers),
        "heads": count(sum(one.layer == 1 for one in life.heads)),
        "head_width": count(stage_of(life, 6, "query").shape[-1]),
        "look_layer": count(head.layer),
        "look_head": count(head.head),
        "weight": percent(most.weight),
        "looked_at": quoted(most.token),
        "units": count(units.shape[0]),
        "active": count(units.active or 0),
        "active_share": percent((units.active or 0) / units.shape[0]),
        "before_norm": f"{last_stream.norm:.2f}",
        "after_norm": f"{stage_of(life, 9, 'final norm').norm:.2f}",
        "top": quoted(top.token),
        "top_logit": f"{top.logit:.2f}",
        "top_share": percent(top.probability),
        "choices": f"{choice.model_spread.choices:,.1f}",
        "draw": f"{choice.draw:.4f}",
        "seed": str(tour.seed),
        "picked": visible(choice.picked.token),
        "top_by_temperature": ", ".join(map(percent, top_shares)),
        "kept_k": count_of(kept(tour.top_k), "token"),
        "kept_p": count_of(kept(tour.top_p), "token"),
        "best_text": visible(found.text),
        "best_score": f"{found.score:.3f}",
    }


def _cut(life: "LifeView") -> str:
    """Say how the bytes became one token."""
    if life.tokenizer == "char":
        return "This model's tokens are single characters, as its tokenizer was told."
    if life.merged and life.merges:
        merges = count_of(len(life.merges), "merge")
        return f"Pairs that often stand together in training text were merged: {merges} made this token."
    if len(life.token) == 1:
        return "Pairs that often stand together in training text are merged; this byte stays alone."
    return "This token was looked up as a whole."


def _tokens_of(life: "LifeView") -> dict[str, str]:
    """Say what this model takes for a token, and what shorter or longer ones would change."""
    if life.tokenizer == "char":
        return {
            "letters_or_words": "Letters: each of this model's tokens is a single character. Other models"
            " also have tokens for parts of words and for whole words.",
            "other_tokens": "Why do many models have longer tokens?",
            "their_effect": "Of single characters, a text has several times as many tokens: the model sees"
            " less of it at once, and needs more steps to write it.",
        }
    return {
        "letters_or_words": "Neither. A token may be a letter, a part of a word, or a whole word with the"
        " space before it.",
        "other_tokens": "Why not make each byte a token?",
        "their_effect": "The text would have several times as many tokens: the model would see less of it at"
        " once, and need more steps to write it.",
    }


def _placed(life: "LifeView") -> str:
    """Say how the model is told of positions."""
    if life.positions == "rotary":
        return (
            "So queries and keys are rotated by angles that grow with the position, fast in some dimensions"
            " and slowly in others."
        )
    return "So a second table has a vector for each position, which is added to that of the token."


@dataclass(frozen=True)
class Page:
    """A screen with its numbers filled in; `place` says where in the tour it is."""

    place: str
    title: str
    picture: Callable[[int], RenderableType]
    numbers: Mapping[str, str]
    text: str
    question: str
    answer: str


def pages(tour: "Tour") -> list[Page]:
    """Fill the screens with the numbers of a tour."""
    known = facts(tour)
    filled = []
    for number, (stop, picture) in enumerate(zip(STOPS, PICTURES, strict=True), 1):
        more = len(STOPS) - STAGES
        place = f"{number} of {STAGES}" if number <= STAGES else f"choosing, {number - STAGES} of {more}"
        filled.append(
            Page(
                place=place,
                title=stop.title,
                picture=lambda width, draw=picture: draw(tour, width),  # type: ignore[misc]
                numbers={name.format(**known): value.format(**known) for name, value in stop.numbers.items()},
                text=stop.text.format(**known),
                question=stop.question.format(**known),
                answer=stop.answer.format(**known),
            )
        )
    return filled
