"""The processors that are emulated."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Processor:
    """A processor that qemu emulates."""

    cpu: str
    """As ``qemu -cpu`` takes it."""
    architecture: str
    """As qemu, Python and wheels call it: ``aarch64`` or ``x86_64``."""
    what: str
    """What it stands for."""
    rounds_by_rows: bool = False
    """Whether ONNX Runtime quantizes each row of activations by itself on it, so that detections of a dynamically
    quantized graph need not equal those of other processors."""


PROCESSORS = {
    processor.cpu: processor
    for processor in (
        Processor(cpu="cortex-a53", architecture="aarch64", what="Raspberry Pi 3, without products of bytes"),
        Processor(cpu="cortex-a76", architecture="aarch64", what="Raspberry Pi 5, with dot products of bytes"),
        Processor(cpu="max,sme=off", architecture="aarch64", what="Armv9 with SVE2, bfloat16 and products of int8"),
        Processor(cpu="max", architecture="aarch64", what="Armv9 with SME, too", rounds_by_rows=True),
        Processor(cpu="Nehalem", architecture="x86_64", what="x86-64 of 2008, without AVX"),
    )
}
"""By the name that ``qemu -cpu`` takes."""
