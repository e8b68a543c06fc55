from pathlib import Path

import pytest

from stale_model.data.splits import Split, read_split
from stale_runtime.errors import DatasetError
from stale_runtime.evaluation.ground_truth import read_ground_truth

LABELS = ("polo", "archery", "long jump", "Beer pong")


def write(path: Path, *names: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names))
    return path


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    """The published layout with a split of either kind."""
    write(tmp_path / "train_75_test_25" / "train" / "split_3.list", "polo", "archery", "Beer pong")
    write(tmp_path / "train_75_test_25" / "test" / "split_3.list", "long jump")
    write(tmp_path / "train_50_test_50" / "train" / "split_0.list", "polo", "long jump")
    write(tmp_path / "train_50_test_50" / "test" / "split_0.list", "Beer pong", "archery")
    return tmp_path


def read(spec: str | None, lists: Path | None = None, seen: Path | None = None, unseen: Path | None = None) -> Split:
    return read_split(spec, lists=lists, seen=seen, unseen=unseen, labels=LABELS)


def test_in_the_closed_set_every_label_is_seen() -> None:
    assert read("closed") == Split(name="closed", seen=("Beer pong", "archery", "long jump", "polo"), unseen=())


def test_published_splits_are_found_by_kind_and_number(lists: Path) -> None:
    assert read("75-25:3", lists) == Split(name="75-25:3", seen=("polo", "archery", "Beer pong"), unseen=("long jump",))
    assert read("50-50:0", lists) == Split(name="50-50:0", seen=("polo", "long jump"), unseen=("Beer pong", "archery"))


def test_two_files_make_a_split(tmp_path: Path) -> None:
    seen, unseen = write(tmp_path / "mine.txt", "# mine", "polo", ""), write(tmp_path / "theirs.txt", "archery")
    assert read(None, seen=seen, unseen=unseen) == Split(
        name="mine.txt / theirs.txt", seen=("polo",), unseen=("archery",)
    )


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        ("75-25", "split '75-25', expected 'closed', '75-25:N'"),
        ("75-25:10", "split '75-25:10', expected"),
        ("75-25:3\n", "expected"),
        ("50-50:-1", "expected"),
        ("50-50:٣", "expected"),
        ("80-20:0", "expected"),
        ("../x:0", "expected"),
        ("", "expected"),
        ("75-25:4", "split_4.list: No such file"),
    ],
)
def test_a_bad_spec_is_named(lists: Path, spec: str, match: str) -> None:
    with pytest.raises(DatasetError, match=match):
        read(spec, lists)


def test_a_missing_folder_is_named_with_its_remedy(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="train_50_test_50: no lists; --split-lists is the folder that contains"):
        read("50-50:0", tmp_path)
    with pytest.raises(DatasetError, match=r"--split-lists .*nowhere: No such file or directory; give the folder"):
        read("50-50:0", tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="give --split-lists"):
        read("50-50:0")


def test_a_missing_half_of_a_split_is_named(lists: Path) -> None:
    (lists / "train_50_test_50" / "test" / "split_0.list").unlink()
    with pytest.raises(DatasetError, match=r"test/split_0\.list: No such file"):
        read("50-50:0", lists)


def test_options_that_contradict_or_lack_one_another(lists: Path) -> None:
    file = write(lists / "some.txt", "polo")
    with pytest.raises(DatasetError, match="no split; give --split 'closed'"):
        read(None)
    with pytest.raises(DatasetError, match="--seen without --unseen; give both"):
        read(None, seen=file)
    with pytest.raises(DatasetError, match="--unseen without --seen; give both"):
        read(None, unseen=file)
    with pytest.raises(DatasetError, match="split 'closed' and files of seen and unseen classes"):
        read("closed", seen=file)


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (("polo", "archer", "chess"), "class 'archer' and 1 more, not one of the 4 .* did you mean 'archery'"),
        (("Beer Pongs",), "class 'Beer Pongs', not one of the 4 annotated classes; did you mean 'Beer pong'"),
        (("xyzzy",), "class 'xyzzy', .*; correct the list"),
        (("polo", "polo"), "line 2: duplicate prompt 'polo'"),
        ((), "no prompts"),
    ],
)
def test_a_given_list_that_cannot_be_used_is_named(tmp_path: Path, names: tuple[str, ...], match: str) -> None:
    path, other = write(tmp_path / "mine.txt", *names), write(tmp_path / "other.txt", "long jump")
    for seen, unseen in ((path, other), (other, path)):
        with pytest.raises(DatasetError, match=match) as caught:
            read(None, seen=seen, unseen=unseen)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("names", [("polo", "polo"), ()])
def test_a_damaged_published_list_is_named(lists: Path, names: tuple[str, ...]) -> None:
    path = write(lists / "train_50_test_50" / "train" / "split_0.list", *names)
    with pytest.raises(DatasetError) as caught:
        read("50-50:0", lists)
    assert str(caught.value).startswith(str(path))


def test_classes_that_only_a_published_list_has_are_kept_and_known(lists: Path) -> None:
    write(lists / "train_75_test_25" / "train" / "split_3.list", "polo", "chess", "archery")
    write(lists / "train_75_test_25" / "test" / "split_3.list", "long jump", "Beer pongs")
    assert read("75-25:3", lists) == Split(
        name="75-25:3",
        seen=("polo", "chess", "archery"),
        unseen=("long jump", "Beer pongs"),
        missing=("chess", "Beer pongs"),
    )


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_published_list_that_shares_no_class_is_refused(lists: Path, part: str) -> None:
    path = write(lists / "train_75_test_25" / part / "split_3.list", "chess", "xyzzy")
    with pytest.raises(
        DatasetError, match="none of its 2 classes, such as 'chess', is one of the 4 annotated"
    ) as caught:
        read("75-25:3", lists)
    assert str(caught.value).startswith(str(path))


DIVES = ("CliffDiving", "Diving", "LongJump", "polo")


@pytest.fixture(params=["{kind}/{data}", "{data}/{kind}"])
def two_data_sets(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The lists of two data sets: as the authors publish them, and the other way around."""
    for data, train, test in (("ActivityNet", LABELS[:3], LABELS[3:]), ("THUMOS14", DIVES[1:], DIVES[:1])):
        folder = tmp_path / request.param.format(kind="train_75_test_25", data=data)
        write(folder / "train" / "split_0.list", *train)
        write(folder / "test" / "split_0.list", *test)
        write(folder / "README.md", "TODO")
    return tmp_path


def test_the_annotations_decide_which_data_set_is_meant(two_data_sets: Path) -> None:
    assert read("75-25:0", two_data_sets) == Split(name="75-25:0", seen=LABELS[:3], unseen=LABELS[3:])
    split = read_split("75-25:0", lists=two_data_sets, seen=None, unseen=None, labels=DIVES)
    assert split == Split(name="75-25:0", seen=DIVES[1:], unseen=DIVES[:1])


def test_two_data_sets_that_fit_equally_are_named(two_data_sets: Path) -> None:
    with pytest.raises(DatasetError, match=r"ActivityNet.* and .*THUMOS14.*: both have 1 annotated classes; give the"):
        read_split("75-25:0", lists=two_data_sets, seen=None, unseen=None, labels=["polo"])
    with pytest.raises(DatasetError, match=r"split_0\.list: none of its 3 classes, such as 'polo', is one of the 1 "):
        read_split("75-25:0", lists=two_data_sets, seen=None, unseen=None, labels=["chess"])


def test_a_list_that_is_no_text_is_refused(lists: Path) -> None:
    (lists / "train_50_test_50" / "train" / "split_0.list").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetError, match="not UTF-8 text"):
        read("50-50:0", lists)


@pytest.mark.parametrize(
    ("seen", "unseen", "match"),
    [
        ((), ("polo",), "no seen class"),
        (("polo", "archery", "polo"), (), "'polo' is listed twice among the seen classes"),
        (("polo",), ("archery", "archery"), "'archery' is listed twice among the unseen classes"),
        (("polo", "archery"), ("archery",), "'archery' both seen and unseen"),
        (("polo", "archery"), ("polo", "archery"), "'archery' and 1 more both seen and unseen"),
        (("polo", "Polo"), (), "class 'Polo': duplicate prompt 'Polo', already given at class 'polo'"),
        (("polo",), ("a\x1bb",), "control characters in"),
        (("polo", "archery"), ("Archery ",), "'archery' both seen and unseen"),
    ],
)
def test_a_split_that_would_mislead_is_refused(seen: tuple[str, ...], unseen: tuple[str, ...], match: str) -> None:
    with pytest.raises(DatasetError, match=match):
        Split(name="mine", seen=seen, unseen=unseen)


def test_annotations_without_labels_have_no_closed_set() -> None:
    with pytest.raises(DatasetError, match="split closed: no seen class"):
        read_split("closed", lists=None, seen=None, unseen=None, labels=())


@pytest.mark.reference
@pytest.mark.parametrize(("kind", "seen"), [("75-25", 150), ("50-50", 100)])
def test_every_published_split_parts_the_200_classes(activitynet: Path, kind: str, seen: int) -> None:
    labels = read_ground_truth(activitynet / "activity_net_20p1.json").labels
    for number in range(10):
        split = read_split(f"{kind}:{number}", lists=activitynet / "splits", seen=None, unseen=None, labels=labels)
        assert len(split.seen) == seen
        assert sorted(split.seen + split.unseen) == list(labels)


def test_lists_take_the_spelling_of_the_annotations(lists: Path) -> None:
    seen, unseen = write(lists / "mine.txt", "POLO"), write(lists / "theirs.txt", "beer  pong")
    assert read(None, seen=seen, unseen=unseen) == Split(
        name="mine.txt / theirs.txt", seen=("polo",), unseen=("Beer pong",)
    )
    write(lists / "train_50_test_50" / "train" / "split_0.list", "Polo", "long jump")
    assert read("50-50:0", lists).seen == ("polo", "long jump")
