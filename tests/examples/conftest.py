"""The examples' bundle, opened once."""

import pytest

from stale_runtime import EncodedPrompts, Localizer, read_prompts
from tests.examples.example import EXAMPLES

pytest.importorskip("av", reason="no PyAV; install it with: pip install '.[video]'")


@pytest.fixture(scope="session")
def localizer() -> Localizer:
    return Localizer.open(EXAMPLES / "bundle")


@pytest.fixture(scope="session")
def prompts(localizer: Localizer) -> EncodedPrompts:
    return localizer.encode_prompts(read_prompts(EXAMPLES / "classes.txt"))
