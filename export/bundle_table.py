"""What ``stale-export`` prints of a bundle: its files, and what was measured of them."""

from tabulate import tabulate

from stale_runtime.bundle import layout
from stale_runtime.bundle.manifest import Manifest, QuantizationRecord


def bundle_table(manifest: Manifest) -> str:
    """A row for each file: its size, how far it deviates from the network, how it was quantized, and its mAP."""
    deviations = {record.file: 0.0 for record in manifest.parity}
    for record in manifest.parity:
        deviations[record.file] = max(deviations[record.file], record.deviation)
    quantized = {record.file: record for record in manifest.quantization}
    cosines = _cosines(manifest)
    rows = []
    for name, file in manifest.files.items():
        row = [name, f"{file.size / 1e6:.2f} MB"]
        if name in cosines:
            kind, _, change = _int8_cells(quantized[name]) if name in quantized else ("", "", "")
            rows.append([*row, f"cosine {cosines[name]:.4f}", kind, "", change])
        elif name in quantized:
            rows.append([*row, "", *_int8_cells(quantized[name])])
        else:
            rows.append([*row, f"{deviations[name]:.1e}" if name in deviations else "", "", "", ""])
    headers = ("file", "size", "max deviation", "int8", "layers in float", "mAP % (change)")
    return tabulate(rows, headers, colalign=("left", "right"), disable_numparse=True)


def _cosines(manifest: Manifest) -> dict[str, float]:
    """How far the embeddings of each vision tower agree: in float with PyTorch's, in int8 with those in float."""
    vision = manifest.vision
    found = {layout.VISION_ENCODER: vision.cosine, layout.VISION_ENCODER_INT8: vision.int8_cosine} if vision else {}
    return {file: cosine for file, cosine in found.items() if cosine is not None}


def _int8_cells(record: QuantizationRecord) -> tuple[str, str, str]:
    """The table's cells for an int8 graph: how it was quantized, its layers in float, and its mAP."""
    if record.map_percent is None or record.fp32_map_percent is None:
        map_change = "not measured"
    else:
        map_change = f"{record.map_percent:.2f} ({record.map_percent - record.fp32_map_percent:+.2f}"
        if record.map_change_low is not None and record.map_change_high is not None:
            map_change += f", 95 %: {record.map_change_low:+.2f} to {record.map_change_high:+.2f}"
        map_change += ")"
    kind = f"{record.kind}, {record.integer_operators_found} of {record.integer_operators_expected} operators"
    return kind, ", ".join(record.float_layers) or "none", map_change
