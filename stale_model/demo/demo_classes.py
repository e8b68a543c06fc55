"""What the demo's videos show: verbs, things and places, and which pairs of a verb and a thing are kept out."""

from typing import Final

VERBS: Final = ("washing", "painting", "carrying", "repairing", "photographing")
THINGS: Final = ("car", "window", "dog", "fence", "bicycle")
OTHER_THINGS: Final = ("table", "boat", "barrel", "bench")
"""Only on stills: the more things the towers see a verb with, the less what they learn of it depends on the thing."""
PLACES: Final = ("park", "street", "beach", "yard")
IDLE: Final = ("nobody", "standing", "walking", "waving")
"""What happens outside actions: nobody is there, or somebody does nothing to the thing."""
SEEN: Final = (
    *("Washing a car", "Washing a window", "Washing a dog", "Painting a car", "Painting a window", "Painting a fence"),
    *("Carrying a dog", "Carrying a window", "Carrying a bicycle", "Repairing a car", "Repairing a fence"),
    *("Repairing a bicycle", "Photographing a dog", "Photographing a fence", "Photographing a bicycle"),
)
UNSEEN: Final = (
    *("Washing a bicycle", "Painting a dog", "Carrying a fence", "Repairing a window", "Photographing a car"),
)
"""New pairs of a verb and a thing that the seen classes have. Neither the towers nor the network is trained on them."""
SPLITS: Final = {"seen": SEEN, "unseen": UNSEEN, "all": (*SEEN, *UNSEEN)}


def verb_and_thing(label: str) -> tuple[str, str]:
    """The verb and the thing of a class name: ``Washing a car`` gives ``washing`` and ``car``."""
    verb, _, thing = label.split()
    return verb.lower(), thing


UNSEEN_PAIRS: Final = frozenset(verb_and_thing(label) for label in UNSEEN)
