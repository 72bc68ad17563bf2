"""Checksums of pictures: what is recorded, remembered, compared and refused."""

import json
import os
import shutil

import pytest
import yaml
from typer.testing import CliRunner

from cascadebench.cli.main import app
from cascadebench.core.errors import Fault, InputError
from cascadebench.core.files import sha256_of
from cascadebench.datasets import pictures
from cascadebench.datasets.prepared import load_split


def read(dataset, split="train"):
    """Bytes of every picture of a split, compared with what is recorded."""
    return [record.picture_bytes() for record in load_split(dataset.out, split).records]


def replace_with_other_bytes(path, back=False):
    """Replace a picture with another of equal size; `back`: set the time of its file back."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    if back:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


def hashed(monkeypatch):
    """Note which pictures are read for their checksums."""
    names = []

    def noted(path):
        names.append(path.name)
        return sha256_of(path)

    monkeypatch.setattr(pictures, "sha256_of", noted)
    return names


def test_every_picture_has_its_size_and_checksum(dataset):
    dataset.prepare()
    assert json.loads((dataset.out / "train_pictures.json").read_text())["pictures"] == [
        {"id": number, "bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for number, path in ((10, dataset.root / "train/a.png"), (20, dataset.root / "train/b.png"))
    ]
    assert read(dataset) == [(dataset.root / "train" / name).read_bytes() for name in ("a.png", "b.png")]


@pytest.mark.parametrize("back", [False, True])
def test_a_replaced_picture_is_refused_by_name_and_prepared_anew(dataset, back):
    before = dataset.prepare()["lock"]["splits"]["train"]
    replace_with_other_bytes(dataset.root / "train/b.png", back)
    with pytest.raises(Fault, match=r"train/b\.png: the picture was damaged or replaced .* SHA-256 is not"):
        read(dataset)
    after = dataset.prepare()["lock"]["splits"]["train"]
    assert {key for key in after if after[key] != before[key]} == {"pictures_sha256"}
    assert len(read(dataset)) == 2


def test_equal_bytes_elsewhere_are_the_same_dataset(dataset):
    dataset.prepare()
    there = dataset.out.with_name("there")
    dataset.root = shutil.copytree(dataset.root, dataset.root.parent / "other machine" / "copy")
    dataset.options["root"], here, dataset.out = (str(dataset.root),), dataset.out, there
    dataset.prepare()
    locks = [json.loads((folder / "lock.json").read_text()) for folder in (here, there)]
    for split in ("train", "val"):
        assert sha256_of(here / f"{split}_pictures.json") == sha256_of(there / f"{split}_pictures.json")
        assert locks[0]["splits"][split].pop("image_root") != locks[1]["splits"][split].pop("image_root")
    assert locks[0] == locks[1]


def test_of_pictures_that_were_not_touched_no_checksum_is_computed_again(dataset, monkeypatch):
    names = hashed(monkeypatch)
    dataset.prepare()
    assert sorted(name for name in names if name.endswith(".png")) == ["a.png", "b.png", "c.png"]
    names.clear()
    dataset.prepare()
    os.utime(dataset.root / "train/b.png")
    dataset.prepare()
    assert [name for name in names if name.endswith(".png")] == ["b.png"]
    names.clear()
    (dataset.out / ".pictures_read.json").write_text('{"cut')
    dataset.prepare()
    assert len([name for name in names if name.endswith(".png")]) == 3


def test_an_interrupted_run_need_not_begin_anew(dataset, monkeypatch):
    def interrupted(path):
        if path.name == "b.png":
            raise KeyboardInterrupt
        return sha256_of(path)

    monkeypatch.setattr(pictures, "sha256_of", interrupted)
    monkeypatch.setattr(pictures, "THREADS", 1)
    with pytest.raises(KeyboardInterrupt):
        dataset.prepare()
    assert [path.name for path in dataset.out.iterdir()] == [".pictures_read.json"]
    names = hashed(monkeypatch)
    dataset.prepare()
    assert sorted(name for name in names if name.endswith(".png")) == ["b.png", "c.png"]


def test_a_picture_that_cannot_be_read_is_named(dataset, monkeypatch):
    def failing(path):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(pictures, "sha256_of", failing)
    with pytest.raises(InputError, match=r"[ab]\.png: cannot be read: Input/output error"):
        dataset.prepare()
    assert not (dataset.out / "lock.json").exists()


def test_sizes_alone_are_recorded_where_that_is_asked_for(dataset, monkeypatch):
    full = dataset.prepare()["lock"]
    digest, names = dataset.card.digest(), hashed(monkeypatch)
    dataset.options["checksums"] = "sizes"
    lock = dataset.prepare()["lock"]
    assert not [name for name in names if name.endswith(".png")]
    assert dataset.card.digest() == digest == lock["digest"]
    assert lock["splits"]["val"]["pictures"] == "sizes" and full["splits"]["val"]["pictures"] == "sha256"
    assert "sha256" not in (dataset.out / "val_pictures.json").read_text()
    replace_with_other_bytes(dataset.root / "train/b.png")
    assert len(read(dataset)) == 2
    (dataset.root / "train/b.png").write_bytes(b"shorter")
    with pytest.raises(Fault, match=r"train/b\.png: .* it has 7 bytes, [0-9]+ were recorded"):
        read(dataset)


def test_the_command_says_what_was_recorded(dataset, tmp_path):
    dataset.write_source()
    card = tmp_path / "pets.yaml"
    card.write_text(yaml.safe_dump(dataset.card.model_dump(mode="json")))
    for option, said in (([], "SHA-256 of each"), (["--sizes-only"], "sizes of their files alone")):
        done = CliRunner().invoke(app, ["prepare", str(card), "--out", str(dataset.out), *option])
        assert done.output == f"train: 2 pictures, {said}\nval: 1 pictures, {said}\n"
    assert json.loads((dataset.out / "lock.json").read_text())["splits"]["val"]["pictures"] == "sizes"


def test_what_an_earlier_version_prepared_is_not_trusted(dataset):
    dataset.prepare()
    lock = json.loads((dataset.out / "lock.json").read_text())
    for split in lock["splits"].values():
        del split["pictures"], split["pictures_sha256"]
    (dataset.out / "lock.json").write_text(json.dumps(lock))
    with pytest.raises(InputError, match=rf"nothing of the pictures; `cascadebench prepare pets --out {dataset.out}`"):
        read(dataset)


@pytest.mark.parametrize(("change", "said"), [("edit", "it was changed since"), ("remove", "no such file")])
def test_the_record_itself_is_guarded(dataset, change, said):
    dataset.prepare()
    path = dataset.out / "train_pictures.json"
    if change == "edit":
        path.write_text(path.read_text().replace('"bytes": ', '"bytes": 1'))
    else:
        path.unlink()
    assert len(read(dataset, "val")) == 1
    with pytest.raises(Fault, match=f"train_pictures.json: {said}"):
        read(dataset)
