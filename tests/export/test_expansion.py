import numpy as np

from stale_export.expansion import Directions
from stale_export.folding import FoldedAttention
from tests import tiny

C = tiny.CHANNELS


def test_the_strongest_directions_are_those_that_videos_differ_in() -> None:
    network = tiny.make_network()
    block = FoldedAttention.of(network.snippet_embedding)
    dice = np.random.default_rng(0)
    videos = [dice.standard_normal((200, C)).astype(np.float32) * np.r_[5.0, np.full(C - 1, 0.01)] for _ in range(3)]
    expansion = Directions(block, videos).expansion(1)
    first = np.zeros((1, C), np.float32)
    first[0, 0] = 1
    expected = block.query.reshape(C, block.heads, C)[0, :, 0]  # what the scores between two such snippets are
    found = (first @ expansion.left @ expansion.right @ first.T)[:, 0, 0]
    np.testing.assert_allclose(found, expected, rtol=0.05, atol=1e-3)
    rest = expansion.rest_of(block)
    np.testing.assert_allclose(
        expansion.left @ expansion.right + rest, block.query.reshape(C, -1, C).transpose(1, 0, 2), atol=1e-5
    )
