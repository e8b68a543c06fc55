import pytest

from stale_export.graph_choice import ALL_GRAPHS, check_graphs


def test_ort_fast_needs_an_exact_graph_beside_it() -> None:
    check_graphs(ALL_GRAPHS, vision=False)
    check_graphs(["ort-fast", "ort-int8"], vision=False)
    with pytest.raises(ValueError, match="ort-fast leaves what it is too far off for to another graph; add"):
        check_graphs(["ort-fast"], vision=False)
