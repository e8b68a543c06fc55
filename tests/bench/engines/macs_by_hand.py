"""The multiplications of the published network, by a formula."""


def macs_by_hand(K: int, L: int, T: int, *, C: int = 512, width: int = 512, inner: int = 2048, layers: int = 12) -> int:
    """Multiply-accumulates of the published network, from the sizes in the original's ``STALE.__init__``.

    Args:
        K: prompts.
        L: tokens of each, with padding.
        T: snippets.
        C: channels of a snippet.
        width: channels of the text tower.
        inner: channels of its feed-forward layers.
        layers: of the text tower.
    """
    H, hidden, feedforward = 4, 256, 1
    tower = layers * K * (4 * L * width**2 + 2 * L * L * width + 2 * L * width * inner) + K * width * C
    embedding = 3 * T * H * C**2 + 2 * H * T * T * C + T * H * C**2
    adaptation = (K + 1 + 2 * T) * H * C**2 + 2 * H * (K + 1) * T * C + (K + 1) * H * C**2
    masks = T * 3 * C * hidden + T * T * hidden
    encoder = 4 * T * C**2 + 2 * T * T * C + 2 * T * C * feedforward
    decoder = (4 * C**2 + 2 * C) + (2 * C**2 + 2 * T * C**2 + 2 * T * C) + 2 * C * feedforward
    foreground = T * C**2 + 2 * encoder + 2 * decoder + 3 * C**2 + T * C
    scores = (K + 1) * T * C + K * C
    return tower + embedding + adaptation + masks + foreground + scores
