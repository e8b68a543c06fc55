import pytest
import torch

from stale_export.mask_nodes import choose_mask_nodes
from stale_runtime.bundle import layout
from tests.export.test_localizer_graph import make_network


@pytest.mark.parametrize(("changes", "nodes"), [({}, 8), ({"heads": 3}, 12)])
def test_a_network_gets_the_fewest_nodes_that_suffice(changes: dict[str, int], nodes: int) -> None:
    assert choose_mask_nodes(make_network(**changes)) == nodes


def test_no_more_nodes_are_taken_than_the_longest_video_has_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "LONGEST", 400)
    assert choose_mask_nodes(make_network()) is None  # with 6 nodes, 496 rows


def test_a_network_whose_masks_change_abruptly_gets_all_rows() -> None:
    network = make_network()
    with torch.no_grad():
        network.mask_localizer.kernel.mul_(100)
    assert choose_mask_nodes(network) is None
