"""The published files of each data set: where they are, their hashes, and what to know before using them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from mmctl.errors import UserError, suggest

MIB = 2**20


@dataclass(frozen=True)
class RemoteFile:
    """A file on a server; the addresses are tried in turn."""

    name: str
    urls: tuple[str, ...]
    size: int  # bytes
    sha256: str


@dataclass(frozen=True)
class PublishedSet:
    """What `mmctl data get` knows of a data set."""

    title: str
    terms: str  # what its authors say about its use
    files: tuple[RemoteFile, ...] = ()
    folder: str | None = None  # of data/; None = its name
    kind: Literal["files", "tar", "zip"] = "files"  # what the files are; an archive is unpacked and then removed
    makes: tuple[str, ...] = ()  # what unpacking makes in the folder
    unpacked: int = 0  # bytes, rounded up
    at_least: int = 0  # bytes of the images: with fewer, what unpacking made is not complete
    instead: str = field(default="", repr=False)  # what to do where there is nothing to download


def _svhn(part: str, size: int, sha256: str) -> RemoteFile:
    name = f"{part}_32x32.mat"
    return RemoteFile(name, (f"http://ufldl.stanford.edu/housenumbers/{name}",), size, sha256)


_SVHN = (
    _svhn("train", 182_040_794, "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8"),
    _svhn("test", 64_275_384, "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b"),
)
_EXTRA = _svhn("extra", 1_329_278_602, "a133a4beb38a00fcdda90c9489e0c04f900b660ce8a316a5e854838379a71eb3")
_CIFAR_TERMS = "no licence is named; the authors ask to cite Krizhevsky, Learning Multiple Layers of Features, 2009"
_SVHN_TERMS = "for non-commercial use; cite Netzer et al., 2011"

SETS: dict[str, PublishedSet] = {
    "cifar10": PublishedSet(
        "CIFAR-10, binary version", _CIFAR_TERMS, kind="tar", makes=("cifar-10-batches-bin",), unpacked=180 * MIB,
        at_least=60_000 * 3073,
        files=(RemoteFile(
            "cifar-10-binary.tar.gz", ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",), 170_052_171,
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        ),),
    ),
    "cifar100": PublishedSet(
        "CIFAR-100, binary version", _CIFAR_TERMS, kind="tar", makes=("cifar-100-binary",), unpacked=180 * MIB,
        at_least=60_000 * 3074,
        files=(RemoteFile(
            "cifar-100-binary.tar.gz", ("https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",), 168_513_733,
            "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        ),),
    ),
    "svhn": PublishedSet("SVHN, cropped digits", _SVHN_TERMS, _SVHN),
    "svhn-extra": PublishedSet("SVHN with its extra images", _SVHN_TERMS, (*_SVHN, _EXTRA), folder="svhn"),
    "stl10": PublishedSet(
        "STL-10, binary version", "its images are from ImageNet, whose terms apply; cite Coates, Ng and Lee, 2011",
        kind="tar", makes=("stl10_binary",), unpacked=3_000 * MIB, at_least=113_000 * 96 * 96 * 3,
        files=(RemoteFile(
            "stl10_binary.tar.gz", ("http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",), 2_640_397_119,
            "f31fd99273a1acb8609c8db427cebb1de3f71de77758cdc0e22956e1289b9866",
        ),),
    ),
    "eurosat": PublishedSet(
        "EuroSAT, colour", "MIT licence; contains modified Copernicus Sentinel data; cite Helber et al., 2019",
        kind="zip", makes=("2750",), unpacked=120 * MIB,
        at_least=85_000_000,  # JPEG files, of which the archive saves little
        files=(RemoteFile(
            "EuroSAT.zip", (
                "https://madm.dfki.de/files/sentinel/EuroSAT.zip",
                "https://huggingface.co/datasets/torchgeo/eurosat/resolve/c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",
            ), 94_280_567, "8ebea626349354c5328b142b96d0430e647051f26efc2dc974c843f25ecf70bd",
        ),),
    ),
    "rafdb": PublishedSet(
        "RAF-DB", "for non-commercial research, on request",
        instead="Ask its authors for it at http://www.whdeld.cn/whdeld/RAF/model1.html (a form, from a university "
        "address). Unpack the basic set and put the folders EmoLabel and Image/aligned into data/rafdb.",
    ),
    "fer2013": PublishedSet(
        "FER2013", "of a Kaggle competition; an account is needed",
        instead="Download fer2013.csv from https://www.kaggle.com/c/challenges-in-representation-learning-facial-"
        "expression-recognition-challenge/data with your account, and put it into data/fer2013.",
    ),
    "ferplus": PublishedSet(
        "FER+", "votes under the MIT licence; pixels of FER2013, of a Kaggle competition",
        instead="Download fer2013new.csv from https://github.com/microsoft/FERPlus and fer2013.csv from Kaggle's "
        "fer2013 with your account, and put both into data/ferplus.",
    ),
    "medmnist": PublishedSet(
        "MedMNIST", "CC BY 4.0, DermaMNIST CC BY-NC 4.0",
        instead="Download the archives that you need, such as bloodmnist.npz, from https://zenodo.org/records/10519652 "
        "into data/medmnist. The data set is a plugin: plugins/medmnist.py.",
    ),
    "semi_aves": PublishedSet(
        "Semi-Aves", "iNaturalist's terms of service, for non-commercial research and education",
        instead="Download the images from the links at https://github.com/cvl-umass/semi-inat-2020 (Google Drive or "
        "Kaggle) into data/semi_aves. The data set is a plugin: plugins/semi_aves.py.",
    ),
}  # fmt: skip


def find_set(name: str) -> PublishedSet:
    """The data set with this name; UserError if it is unknown or cannot be downloaded."""
    if name not in SETS:
        known = ", ".join(SETS)
        raise UserError(f'no published data set "{name}" is known.{suggest(name, SETS)} Known: {known}.')
    found = SETS[name]
    if not found.files:
        raise UserError(f"{found.title} cannot be downloaded by a program ({found.terms}). {found.instead}")
    return found
