"""What the guided tour shows is what the views show of the same token."""

from mygpt_cli.backends.reference import ReferenceDecoder
from mygpt_cli.config.sampling import Sampling
from mygpt_cli.generation.stream import Prompt, Sample, generate
from mygpt_cli.inspection.life import view_life
from mygpt_cli.inspection.tour import BEAM_TOKENS, BEAMS, CANDIDATES, TOP_K, TOP_P, take_tour
from tests.helpers.standins import byte_tokenizer, random_model

TOKENIZER = byte_tokenizer()
DECODER = ReferenceDecoder(random_model(TOKENIZER.vocab_size))
TEXT = "The cat sat on a mat and on a hat"
PROMPT = Prompt(TEXT, tuple(TOKENIZER.encode(TEXT)))


def test_the_parts_of_a_tour_are_those_of_the_views() -> None:
    tour = take_tour(DECODER, TOKENIZER, PROMPT, seed=7)
    plain = Sampling(seed=7, temperature=1.0, max_new_tokens=1)
    assert tour.life == view_life(DECODER, TOKENIZER, PROMPT, plain, top=CANDIDATES)
    assert b"".join(tour.tokens) == TEXT.encode()[-24:]  # the context
    shares = {one.id: one.probabilities[1] for one in tour.temperatures.candidates}
    for one in tour.life.choice.candidates:
        assert shares[one.id] == one.probability
    assert (tour.top_k.filters, tour.top_p.filters) == (("top-k",), ("top-p",))
    left = [one for one in tour.top_k.candidates if one.cut_by is None]
    assert len(left) == TOP_K
    total = sum(one.probability for one in tour.top_p.candidates if one.cut_by is None)
    assert tour.top_p.others.kept or total >= TOP_P
    sampling = Sampling(seed=7, beams=BEAMS, max_new_tokens=BEAM_TOKENS)
    samples = [e for e in generate(DECODER, TOKENIZER, [PROMPT], sampling) if isinstance(e, Sample)]
    assert tour.beams.found[0].ids == samples[0].ids
