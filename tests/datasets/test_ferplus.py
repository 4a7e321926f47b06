"""FER+: its label rules, both layouts, and what is said of broken files. The real files are used where they are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers.paths import REPO
from mmctl.datasets import _cache, _ferplus_files
from mmctl.datasets._ferplus_files import FOLDERS, HEADER, USAGES, _numbers, read_votes
from mmctl.datasets.ferplus import distribution, ferplus, majority
from mmctl.plugin import DataError

DATA = Path(os.environ.get("MMCTL_DATA") or REPO.parent / "shared" / "data")
PARTS = ("train", "val", "test")

TRAIN_NEW = [8740, 7287, 3149, 3014, 2100, 119, 532, 119]
TEST_NEW = [1090, 893, 396, 384, 273, 18, 83, 16]
TRAIN_LABEL = [8733, 7284, 3136, 3022, 2098, 116, 536, 120]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def unpack(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The real files, once in a session: unpack("png"), unpack("csv", limit=50)."""
    made: dict[tuple[str, int | None], Path] = {}

    def one(layout: str, limit: int | None = None) -> Path:
        if not (DATA / "unpack").is_file():
            pytest.skip(f"no FER+ here: {DATA}/unpack is missing (set MMCTL_DATA)")
        if (layout, limit) not in made:
            folder = tmp_path_factory.mktemp(f"ferplus-{layout}") / "data"
            command = [sys.executable, str(DATA / "unpack"), "ferplus", str(folder), "--layout", layout]
            subprocess.run(command + (["--limit", str(limit)] if limit else []), check=True, capture_output=True)
            made[layout, limit] = folder
        return made[layout, limit]

    return one


@pytest.fixture
def real_votes() -> tuple[np.ndarray, np.ndarray]:
    """All 35,887 rows of the published fer2013new.csv: usages and votes."""
    path = DATA / "ferplus" / "fer2013new.csv"
    if not path.is_file():
        pytest.skip(f"no FER+ here: {path} is missing (set MMCTL_DATA)")
    table = read_votes(path)
    return np.array(table.usages), table.votes


# The label rules


def row(*votes: int) -> np.ndarray:
    return np.array([votes + (0,) * (10 - len(votes))])


@pytest.mark.parametrize(
    ("votes", "label"),
    [
        (row(6, 4), 0),
        (row(5, 5), -1),  # half is not a majority
        (row(5, 4, 1), 0),  # the single vote does not count: 5 of 9
        (row(4, 2, 1, 1, 1, 1), 0),  # 4 of 6
        (row(1, 1, 1, 1, 1, 1, 1, 1, 1, 1), -1),  # nothing is left
        (row(4, 0, 0, 0, 0, 0, 0, 0, 4, 2), -1),  # unknown and NF count in the total
        (row(4, 0, 0, 0, 0, 0, 0, 0, 6, 0), -1),  # unknown wins: dropped, not relabelled
        (row(0, 0, 0, 0, 0, 0, 0, 0, 0, 10), -1),
        (row(0, 0, 0, 0, 0, 0, 0, 9), 7),
    ],
)
def test_majority(votes: np.ndarray, label: int) -> None:
    assert majority(votes).tolist() == [label]


@pytest.mark.parametrize(
    ("votes", "shares"),
    [
        (row(6, 4), [0.6, 0.4]),
        (row(8, 2), [1.0]),  # three quarters are reached: the rest does not count
        (row(5, 5), [0.5, 0.5]),
        (row(4, 0, 0, 0, 0, 0, 0, 0, 6, 0), []),
        (row(6, 0, 0, 0, 0, 0, 0, 0, 4, 0), [1.0]),
        (row(5, 0, 0, 0, 0, 0, 0, 0, 5, 0), []),  # half of the votes is not enough
        (row(3, 3, 0, 0, 0, 0, 0, 0, 3, 0), [0.5, 0.5]),
        (row(4, 2, 2, 2), []),  # four expressions are too many
        (row(2, 2, 2, 2, 2), []),
        (row(1, 1, 1, 1, 1, 1, 1, 1, 1, 1), []),
    ],
)
def test_distribution(votes: np.ndarray, shares: list[float]) -> None:
    assert distribution(votes)[0].tolist() == pytest.approx(shares + [0.0] * (8 - len(shares)))


def one_by_one(votes: list[int]) -> list[float]:
    """The published rule of `probability`, in plain steps, for one row."""
    left = [v if v > 1 else 0 for v in votes]
    total, taken, reached, count, go_on = sum(left), [0.0] * 10, 0, 0, True
    while reached < 0.75 * total and count < 3 and go_on:
        most = max(left)
        for i in range(10):
            if left[i] == most:
                taken[i], left[i] = most, 0
                reached, count = reached + most, count + 1
                if i >= 8:
                    go_on = False
                    if sum(taken) > most:
                        taken[i], count = 0, count - 1
                    break
    if sum(taken) <= 0.5 * total or count > 3 or max(taken[:8]) < max(taken[8:]):
        return [0.0] * 8
    return [v / sum(taken[:8]) for v in taken[:8]]


def test_distribution_equals_the_published_steps() -> None:
    rng = np.random.default_rng(0)
    votes = rng.multinomial(10, rng.dirichlet(np.full(10, 0.3), 3000))
    np.testing.assert_allclose(distribution(votes), [one_by_one(v) for v in votes.tolist()], atol=1e-6)


def test_counts_by_majority(real_votes: tuple[np.ndarray, np.ndarray]) -> None:
    usages, votes = real_votes
    label = majority(votes)
    counts = [np.bincount(label[(usages == usage) & (label >= 0)], minlength=8) for usage in USAGES]
    assert [int(c.sum()) for c in counts] == [25060, 3199, 3153]
    assert counts[0].tolist() == TRAIN_NEW
    assert counts[2].tolist() == TEST_NEW


def test_counts_by_probability(real_votes: tuple[np.ndarray, np.ndarray]) -> None:
    usages, votes = real_votes
    share = distribution(votes)
    assert [int(share[usages == usage].any(1).sum()) for usage in USAGES] == [27956, 3505, 3505]
    np.testing.assert_allclose(share[share.any(1)].sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(share[::7], [one_by_one(v) for v in votes[::7].tolist()], atol=1e-6)


# The real files


@pytest.mark.exhaustive
def test_folders_of_png(unpack: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    root = unpack("png")
    data = ferplus(root)
    assert [len(data[part].ids) for part in PARTS] == [25045, 3191, 3137]
    assert np.bincount(data["train"].targets).tolist() == TRAIN_LABEL
    assert " ".join(data["train"].classes) == "neutral happiness surprise sadness anger disgust fear contempt"
    for number in (0, 12345, 25044):
        with Image.open(root / "FER2013Train" / data["train"].ids[number]) as picture:
            assert (np.asarray(picture) == data["train"].pixels[number, 0]).all()
    monkeypatch.setattr(Image, "open", None)  # from now on it comes from the cache
    soft = ferplus(root, votes="probability")
    assert soft["train"].targets.shape == (27947, 8)
    assert soft["val"].fingerprint == data["val"].fingerprint
    assert soft["train"].fingerprint != data["train"].fingerprint


@pytest.mark.slow
def test_two_csv_files(unpack: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    root = unpack("csv")
    data = ferplus(root)
    monkeypatch.setattr(_ferplus_files, "_parse", None)  # from now on it comes from the cache
    assert ferplus(root)["train"].fingerprint == data["train"].fingerprint
    assert [len(data[part].ids) for part in PARTS] == [25060, 3199, 3153]
    assert np.bincount(data["train"].targets).tolist() == TRAIN_NEW
    assert np.bincount(data["test"].targets).tolist() == TEST_NEW
    assert len(set(data["train"].ids)) == 25060
    assert "fer0006953.png#2" in data["train"].ids
    assert not set(data["train"].ids) & set(data["test"].ids)


def test_layouts_agree(unpack: Callable[..., Path], tmp_path: Path) -> None:
    """The first images of each part: PNG files by fer2013new.csv are what the two CSV files are."""
    both = shutil.copytree(unpack("png", limit=60), tmp_path / "both")
    csv_root = unpack("csv", limit=60)
    shutil.copy(csv_root / "fer2013new.csv", both)
    table = read_votes(csv_root / "fer2013new.csv")
    from_png, from_csv = ferplus(both), ferplus(csv_root)
    for part in PARTS:
        assert from_png[part].fingerprint == from_csv[part].fingerprint
        assert set(from_png[part].ids) <= set(table.names)
    assert (
        ferplus(both, labels="label.csv")["train"].fingerprint == ferplus(unpack("png", limit=60))["train"].fingerprint
    )
    shutil.copy(csv_root / "fer2013.csv", both)  # PNG files win; without them the CSV file serves
    assert ferplus(both)["train"].fingerprint == from_csv["train"].fingerprint
    for picture in both.glob("*/*.png"):
        picture.unlink()
    assert ferplus(both)["train"].fingerprint == from_csv["train"].fingerprint


# Small files of our own


def faces(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 48, 48), np.uint8)


@pytest.fixture
def png(tmp_path: Path) -> Path:
    """Two images in each part, one happy and one angry."""
    for number, folder in enumerate(FOLDERS.values()):
        (tmp_path / "png" / folder).mkdir(parents=True)
        for i, picture in enumerate(faces(2, number)):
            Image.fromarray(picture).save(tmp_path / "png" / folder / f"{number}{i}.png")
        rows = [f'{number}0.png,"(0, 0, 48, 48)",0,9,0,0,0,0,0,0,1,0', f"{number}1.png,0,0,0,2,8,0,0,0,0,0"]
        (tmp_path / "png" / folder / "label.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "png"


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """The two CSV files with the same six images; the fourth row has no face."""
    root = tmp_path / "two"
    root.mkdir()
    pixels, votes = ["emotion,pixels,Usage"], [",".join(HEADER)]
    for number, usage in enumerate(USAGES):
        for i, picture in enumerate(faces(2, number)):
            pixels.append(f"6,{' '.join(map(str, picture.ravel()))},{usage}")
            votes.append(f"{usage},{number}{i}.png," + ("0,9,0,0,0,0,0,0,1,0", "0,0,0,2,8,0,0,0,0,0")[i])
        if number == 0:
            pixels.append(f"6,{' '.join(['0'] * 2304)},{usage}")
            votes.append(f"{usage},,0,0,0,0,0,0,0,0,0,10")
    (root / "fer2013.csv").write_text("\n".join(pixels) + "\n")
    (root / "fer2013new.csv").write_text("\n".join(votes) + "\n")
    return root


def change(path: Path, line: int, old: str, new: str) -> None:
    lines = path.read_text().split("\n")
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new, 1)
    path.write_text("\n".join(lines))


@pytest.mark.parametrize("layout", ["png", "two"])
def test_small(layout: str, request: pytest.FixtureRequest) -> None:
    data = ferplus(request.getfixturevalue(layout))
    assert list(data) == ["train", "val", "test"]
    for number, part in enumerate(PARTS):
        assert data[part].targets.tolist() == [1, 4]
        assert data[part].ids == (f"{number}0.png", f"{number}1.png")
        assert (data[part].pixels[:, 0] == faces(2, number)).all()


def test_only_train_is_soft(two: Path) -> None:
    change(two / "fer2013new.csv", 2, "0,9,0", "4,5,0")
    data = ferplus(two, votes="probability")
    np.testing.assert_allclose(data["train"].targets[0][:2], [4 / 9, 5 / 9], atol=1e-6)
    assert data["train"].targets.dtype == np.float32
    assert data["val"].targets.tolist() == [1, 4]


def test_windows_files(two: Path) -> None:
    """A byte order mark, CRLF, blanks and quotes change nothing."""
    before = ferplus(two)["train"].fingerprint
    votes, pixels = two / "fer2013new.csv", two / "fer2013.csv"
    votes.write_bytes(b"\xef\xbb\xbf" + votes.read_bytes().replace(b"\n", b"\r\n").replace(b",9,", b", 9,"))
    text = b"\n".join(b'"' + line.replace(b",", b'","') + b' "' for line in pixels.read_bytes().splitlines())
    text = text.replace(b'","Public', b'  ","Public')
    pixels.write_bytes(b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"))
    assert ferplus(two)["train"].fingerprint == before


def test_fingerprint_sees_every_change(png: Path) -> None:
    seen = {ferplus(png)["train"].fingerprint}
    folder = png / "FER2013Train"
    change(folder / "label.csv", 1, "0,9,0,", "9,0,0,")
    seen.add(ferplus(png)["train"].fingerprint)
    Image.fromarray(faces(1, 9)[0]).save(folder / "00.png")
    seen.add(ferplus(png)["train"].fingerprint)
    (folder / "00.png").rename(folder / "07.png")
    change(folder / "label.csv", 1, "00.png", "07.png")
    seen.add(ferplus(png)["train"].fingerprint)
    assert len(seen) == 4


SOURCE = r"github\.com/microsoft/FERPlus.*Kaggle"


@pytest.mark.parametrize(
    ("file", "line", "old", "new", "words"),
    [
        ("FER2013Train/label.csv", 1, ",1,0", "", r"label\.csv:1: 10 columns, but a row has 12 or 11.*" + SOURCE),
        ("FER2013Train/label.csv", 2, "0,0,0,2", "0,0,0,0,0,2", r"label\.csv:2: 13 columns"),
        ("FER2013Valid/label.csv", 2, "8", "many", r"FER2013Valid/label\.csv:2: 'many' votes for anger"),
        ("FER2013Valid/label.csv", 2, "8", "8.0", r"'8\.0' votes for anger; votes must be whole numbers"),
        ("FER2013Valid/label.csv", 2, "8", "-8", r"'-8' votes"),
        ("FER2013Valid/label.csv", 2, "8", "", r"'' votes"),
        (
            "FER2013Test/label.csv",
            1,
            "20.png",
            "no.png",
            r"label\.csv:1: there is no image file 'no\.png' in .*" + SOURCE,
        ),
        ("FER2013Test/label.csv", 1, "20.png", "../FER2013Train/00.png", r"there is no image file '\.\./"),
        (
            "FER2013Test/label.csv",
            1,
            "(0, 0, 48, 48)",
            "(4, 0, 44, 48)",
            r"the box '\(4, 0, 44, 48\)' is not the whole",
        ),
    ],
)
def test_bad_label_csv(png: Path, file: str, line: int, old: str, new: str, words: str) -> None:
    change(png / file, line, old, new)
    with pytest.raises(DataError, match=words):
        ferplus(png)


@pytest.mark.parametrize(
    ("file", "line", "old", "new", "words"),
    [
        ("fer2013new.csv", 1, "neutral", "calm", r"fer2013new\.csv:1: the header must be Usage,Image name,neutral"),
        ("fer2013new.csv", 1, ",", ";", r"header must be"),
        ("fer2013new.csv", 3, ",8,", ",", r"fer2013new\.csv:3: 11 columns, but a row has 12\."),
        ("fer2013new.csv", 3, ",8,", ",1e1,", r"fer2013new\.csv:3: '1e1' votes for anger"),
        ("fer2013new.csv", 5, "PublicTest", "Public", r"fer2013new\.csv:5: usage 'Public' is none of Training"),
        (
            "fer2013new.csv",
            5,
            "10.png",
            "00.png",
            r"fer2013new\.csv:5: '00\.png' is PublicTest here and Training in line 2",
        ),
        (
            "fer2013new.csv",
            4,
            "Training",
            "PublicTest",
            r"fer2013new\.csv:4: usage PublicTest, but Training in the same row",
        ),
        ("fer2013.csv", 1, "pixels", "image", r"fer2013\.csv:1: the header must be emotion,pixels,Usage.*" + SOURCE),
        ("fer2013.csv", 3, ",Training", "", r"fer2013\.csv:3: 2 columns, but a row has 3"),
        ("fer2013.csv", 3, "Training", "Train", r"fer2013\.csv:3: usage 'Train' is none of"),
        ("fer2013.csv", 4, "0 0 0", "0 0", r"fer2013\.csv:4: 2303 pixels, but an image has 2304"),
        ("fer2013.csv", 4, "0 0 0", "0 0 0 0", r"fer2013\.csv:4: 2305 pixels"),
        ("fer2013.csv", 4, "0 0 0", "0 256 0", r"fer2013\.csv:4: pixel '256' is not a number from 0 to 255"),
        ("fer2013.csv", 4, "0 0 0", "0 x 0", r"fer2013\.csv:4: pixel 'x' is not"),
        ("fer2013.csv", 4, "0 0 0", "0 -1 0", r"fer2013\.csv:4: pixel '-1' is not"),
        ("fer2013.csv", 4, "0 0 0", "0 1.5 0", r"fer2013\.csv:4: pixel '1\.5' is not"),
    ],
)
def test_bad_csv_files(two: Path, file: str, line: int, old: str, new: str, words: str) -> None:
    change(two / file, line, old, new)
    with pytest.raises(DataError, match=words):
        ferplus(two)


def test_files_of_different_length(two: Path) -> None:
    with (two / "fer2013new.csv").open("a") as file:
        file.write("PrivateTest,more.png,9,0,0,0,0,0,0,0,0,0\n")
    with pytest.raises(DataError, match=rf"fer2013\.csv has 7 rows and fer2013new\.csv has 8; .*{SOURCE}"):
        ferplus(two)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-700])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_truncate, "truncated|not a valid image"),
        (lambda p: p.write_bytes(b""), "cannot identify"),
        (lambda p: p.write_text("<svg/>"), "cannot identify"),
        (lambda p: Image.new("L", (50, 48)).save(p), "50 x 48 px, not 48 x 48"),
        (lambda p: Image.new("I;16", (48, 48)).save(p), "mode I;16, not 8 bit grey"),
        (lambda p: Image.new("RGBA", (48, 48)).save(p), "mode RGBA"),
        (lambda p: Image.new("L", (48, 48)).save(p, format="BMP"), "cannot identify"),
    ],
    ids=["cut", "empty", "text", "size", "16 bit", "alpha", "other format"],
)
def test_bad_image(png: Path, spoil: Callable[[Path], Any], words: str) -> None:
    spoil(png / "FER2013Valid" / "11.png")
    with pytest.raises(DataError, match=rf"FER2013Valid/11\.png: not a valid image \(.*({words}).*1 of 2 images"):
        ferplus(png)


def test_image_that_is_no_file(png: Path) -> None:
    (png / "FER2013Test" / "20.png").unlink()
    os.mkfifo(png / "FER2013Test" / "20.png")  # opening it would wait for ever
    with pytest.raises(DataError, match=r"there is no image file '20\.png'"):
        ferplus(png)


def test_missing(png: Path, two: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"nowhere: there is no such folder\. {SOURCE[:6]}|FER\+ has two parts"):
        ferplus(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=rf"has neither fer2013\.csv nor FER2013Train.*{SOURCE}"):
        ferplus(tmp_path / "empty")
    shutil.rmtree(png / "FER2013Valid")
    with pytest.raises(DataError, match=rf"FER2013Valid/label\.csv: there is no such file.*{SOURCE}"):
        ferplus(png)
    with pytest.raises(DataError, match=r"fer2013new\.csv: there is no such file"):
        ferplus(png, labels="fer2013new.csv")
    with pytest.raises(DataError, match=r'labels = "label\.csv" needs the folders'):
        ferplus(two, labels="label.csv")
    (two / "fer2013new.csv").unlink()
    with pytest.raises(DataError, match=r"fer2013new\.csv: there is no such file"):
        ferplus(two)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "header must be"),
        (",".join(HEADER).encode(), "there are no rows"),
        (",".join(HEADER).encode() + b"\nTraining,\xff.png,1", "byte .* is not UTF-8"),
        (",".join(HEADER).encode() + b'\nTraining,"' + b"x" * 200_000, "not a CSV file"),
    ],
    ids=["empty", "header only", "latin", "long cell"],
)
def test_odd_votes_file(two: Path, content: bytes, words: str) -> None:
    (two / "fer2013new.csv").write_bytes(content)
    with pytest.raises(DataError, match=rf"fer2013new\.csv:?.*{words}"):
        ferplus(two)


def test_no_clear_label(png: Path) -> None:
    label = png / "FER2013Test" / "label.csv"
    label.write_text(label.read_text().replace("8,0", "2,0").replace(",9,", ",1,"))
    with pytest.raises(DataError, match="no image of test has a majority label"):
        ferplus(png)


# Numbers and cache


def test_numbers_of_all_lengths() -> None:
    values = np.arange(2304) * 7 % 256
    texts = [" ".join(map(str, row)).encode() for row in (values, values[::-1])]
    assert (_numbers(texts) == np.array([values, values[::-1]])).all()


@pytest.mark.parametrize("bad", [b"256", b"1000", b"", b"a", b"-1", b"9\x0f"])
def test_numbers_refuse_what_they_cannot_read(bad: bytes) -> None:
    for place in (0, 5, 2303):
        words = [b"0"] * 2304
        words[place] = bad
        with pytest.raises(ValueError, match=r"^$"):
            _numbers([b" ".join(words)])


@pytest.mark.parametrize("layout", ["png", "two"])
def test_cache(layout: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    root: Path = request.getfixturevalue(layout)
    listing = sorted(root.rglob("*"))
    first = ferplus(root)
    kept = sorted(_cache.cache_folder().iterdir())
    assert kept
    assert sorted(root.rglob("*")) == listing  # nothing is written beside the data
    with monkeypatch.context() as without:
        for name in ("_decode", "_parse"):
            without.setattr(f"mmctl.datasets._ferplus_files.{name}", None)
        assert ferplus(root)["train"].fingerprint == first["train"].fingerprint
    for path in kept:
        whole = path.read_bytes()
        for spoiled in (whole[: len(whole) // 2], b"", whole[:900] + b"\x55" + whole[901:], b"PK\x03\x04" + b"x" * 50):
            path.write_bytes(spoiled)
            assert ferplus(root)["train"].fingerprint == first["train"].fingerprint
    assert sorted(_cache.cache_folder().iterdir()) == kept


def test_cache_that_cannot_be_written(png: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(ferplus(png)["train"].ids) == 2


def test_label_csv_lists_an_image_once(png: Path) -> None:
    path = png / "FER2013Train" / "label.csv"
    path.write_text(path.read_text() + path.read_text().splitlines()[0] + "\n")
    with pytest.raises(DataError, match=r"label\.csv:3: '00\.png' is listed already in line 1"):
        ferplus(png)
