from stale_model.training.epoch_metrics import Epoch, best_epoch


def epochs(*rows: tuple[float, float | None]) -> list[Epoch]:
    """Epochs with these losses and validation mAPs."""
    return [
        Epoch(
            epoch=number,
            total=total,
            classification=total,
            masks=0.0,
            foreground=0.0,
            consistency=0.0,
            validation_map=score,
            seconds=1.0,
            peak_memory_mb=1.0,
            gpu_percent=None,
        )
        for number, (total, score) in enumerate(rows, start=1)
    ]


def test_the_best_epoch_has_the_highest_map_the_first_of_equals() -> None:
    assert best_epoch(epochs((3, 0.1), (2, 0.4), (1, 0.4), (0, 0.3))).epoch == 2
    assert best_epoch(epochs((3, 0.0), (2, 0.0))).epoch == 1


def test_without_validation_it_is_the_last_whatever_the_loss() -> None:
    assert best_epoch(epochs((1, None), (0.5, None), (2, None))).epoch == 3
