"""Writing beside and renaming; paths that stay inside."""

import pytest

from cascadebench.core.errors import InputError
from cascadebench.core.files import inside, read_json, write_json, written_beside


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    with pytest.raises(RuntimeError, match="stop"), written_beside(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("stop")
    assert read_json(path) == {"old": 1}
    assert [found.name for found in tmp_path.iterdir()] == ["a.json"]


def test_nan_is_no_json(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("relative", ["../a.png", "/etc/passwd", "b/../../a.png", "link/a.png"])
def test_a_path_that_leaves_its_root_is_refused(tmp_path, relative):
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    with pytest.raises(InputError, match="leaves its folder"):
        inside(root, relative, "train.json")


def test_what_is_no_path_is_refused(tmp_path):
    with pytest.raises(InputError, match="is no path"):
        inside(tmp_path, "a\0b", "train.json")


def test_a_path_inside_is_found(tmp_path):
    assert inside(tmp_path, "a/../b.png", "x") == tmp_path.resolve() / "b.png"


def test_malformed_json_names_the_place(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": 1,\n  oops}')
    with pytest.raises(InputError, match=r"a.json: not valid JSON: line 2 column 3"):
        read_json(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000 + "]" * 100_000, "a.json: lists or objects are nested too deep"),
        ('{"a": ' + "1" * 5000 + "}", "a.json: a whole number has more than 4300 digits"),
    ],
)
def test_json_that_python_does_not_read_is_refused(tmp_path, text, message):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_json(path)


def test_a_byte_order_mark_is_no_part_of_json(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": 1}', encoding="utf-8-sig")
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    assert read_json(path) == {"a": 1}
