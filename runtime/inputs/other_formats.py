"""Files that are no ``.npy`` files, although they may contain features: what they are, and how to convert them."""

from collections import Counter
from collections.abc import Iterable

TORCH_ARCHIVE = (
    "a file of torch.save, expected an array of numpy; convert it: "
    "numpy.save('v.npy', torch.load('v.pt', weights_only=True).float().numpy())"
)
_PICKLE = "a pickle, which is never loaded; if you trust it, load it and save the array with numpy.save"
_HDF5 = "an HDF5 file, expected an array of numpy; convert it: numpy.save('v.npy', h5py.File('v.h5')[NAME][:])"
_MATLAB = "a MATLAB file, expected an array of numpy; convert it: numpy.save('v.npy', scipy.io.loadmat('v.mat')[NAME])"
_TEXT = (
    "text, expected an array of numpy; convert it: "
    "numpy.save('v.npy', numpy.loadtxt('v.csv', delimiter=',', dtype='float32'))"
)
_SIGNATURES = {
    b"\x80\x02\x8a\n": TORCH_ARCHIVE,
    **{bytes((0x80, protocol)): _PICKLE for protocol in range(2, 6)},
    b"\x89HDF": _HDF5,
    b"MATLAB": _MATLAB,
    b"\x1f\x8b": "compressed with gzip; unpack it with gunzip",
    b"PAR1": "a Parquet file, expected an array of numpy; save the numbers with numpy.save",
}
"""What a file is, by its first bytes."""
_BY_SUFFIX = {
    **dict.fromkeys((".pt", ".pth"), TORCH_ARCHIVE),
    **dict.fromkeys((".pkl", ".pickle"), _PICKLE),
    **dict.fromkeys((".h5", ".hdf5"), _HDF5),
    ".mat": _MATLAB,
    **dict.fromkeys((".csv", ".txt"), _TEXT),
}
_SHOWN = 3


def describe_format(start: bytes) -> str | None:
    """What a file is that does not begin as a ``.npy`` file does, and how to convert it; None if it is unknown.

    Args:
        start: its first bytes, at least four.
    """
    for signature, what in _SIGNATURES.items():
        if start.startswith(signature):
            return what
    return _TEXT if len(start) > 2 and all(byte in b"0123456789+-.,;eE \t\r\nnaN" for byte in start) else None


def describe_suffix(suffixes: Iterable[str]) -> str | None:
    """What files are whose names end like this, and how to convert them; None if none of them is known."""
    return next((_BY_SUFFIX[suffix.lower()] for suffix in suffixes if suffix.lower() in _BY_SUFFIX), None)


def count_others(suffixes: Iterable[str], folders: int) -> str | None:
    """How many files and folders there are beside those that are used: ``3 other files (2 .pt, 1 .txt)``.

    Args:
        suffixes: of the files.
        folders: how many.

    Returns:
        None if there are none.
    """
    counts = Counter(suffix.lower() or "without an ending" for suffix in suffixes)
    parts = []
    if files := sum(counts.values()):
        shown = ", ".join(f"{count:,} {suffix}" for suffix, count in counts.most_common(_SHOWN))
        more = ", …" if len(counts) > _SHOWN else ""
        parts.append(f"{files:,} other file{'' if files == 1 else 's'} ({shown}{more})")
    if folders:
        parts.append(f"{folders:,} folder{'' if folders == 1 else 's'}")
    return " and ".join(parts) or None
