from stale_bench.measuring.thesis import LENGTHS, ORIGINAL, OURS, ThesisRequest


def test_the_sixteen_lengths() -> None:
    assert len(LENGTHS) == 16
    assert (LENGTHS[0], LENGTHS[-1]) == (100, 3000)


def test_on_a_cpu_ours_are_measured_beside_the_original() -> None:
    request = ThesisRequest(seeds=3, threads=2).to_benchmark()
    assert (request.backends, request.where_possible) == ((ORIGINAL,), OURS)
    assert (request.lengths, request.launches, request.threads) == (LENGTHS, 3, 2)
    assert request.budget_s is request.row_budget_s is None  # as long as it takes


def test_on_a_gpu_the_original_is_measured_alone() -> None:
    request = ThesisRequest(device="cuda", lengths=(16,), budget_s=9.0).to_benchmark()
    assert (request.device, request.backends, request.where_possible) == ("cuda", ("upstream-fp32",), ())
    assert (request.lengths, request.budget_s) == ((16,), 9)
