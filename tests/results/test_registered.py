"""``registered.json``: it only grows, and an entry that was edited, moved or dated back is found."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from refusals import refused

from cascadebench.results.layout import ResultsFolder
from cascadebench.results.registered import changes, digest, known_registrations, read_registrations, register

PROJECT = {"version": "1", "commit": "a" * 40, "changed": False}


def content(*words, runs=("r1", "r2"), study="s"):
    """What a study would register, with a question of each word."""
    questions = [{"question": word[0], "asked": {"words": word}, "runs": list(runs)} for word in words]
    questions = [one | {"sha256": digest(one)} for one in questions]
    about = {"dataset": {"name": "d", "sha256": "0"}, "rule": {"alpha": 0.05}, "runs": list(runs)}
    return {"study": study, **about, "questions": questions}


@pytest.fixture
def path(tmp_path):
    return ResultsFolder(tmp_path).study("s").registered


def test_the_old_registration_stays_byte_for_byte(path):
    first = register(path, content("a"), PROJECT)
    before = path.read_text()
    second = register(path, content("a", "b"), PROJECT)
    assert path.read_text().startswith(before.removesuffix("\n]\n"))
    assert read_registrations(path) == [first, second]
    assert (first.previous, second.previous) == (None, first.sha256)
    assert json.loads(path.read_text())[0]["project"] == PROJECT


def test_the_same_content_is_registered_once_and_an_old_one_again(path):
    assert register(path, content("a"), PROJECT)
    assert register(path, content("a"), PROJECT | {"commit": "b" * 40}) is None
    assert register(path, content("b"), PROJECT)
    assert register(path, content("a"), PROJECT), "what is in force is the last one"
    assert len(read_registrations(path)) == 3


def test_what_has_changed_is_told(path):
    before = [register(path, content("a1", "b", "c"), PROJECT)]
    new = {one["question"]: one["sha256"] for one in content("a2", "b", "d")["questions"]}
    expected = {"new": ["d"], "changed": ["a"], "unchanged": ["b"], "no longer asked": ["c"]}
    assert changes(before, new) == expected
    assert changes([], new)["new"] == ["a", "b", "d"]


def test_several_processes_register_one_after_the_other(path):
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda word: register(path, content(word), PROJECT), "abcd"))
    assert sorted(one.sha256 for one in made) == sorted(one.sha256 for one in read_registrations(path))


def edited(key, value, number=0):
    def change(entries):
        entries[number][key] = value
        return entries

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edited("time", "2020-01-01T00:00:00+00:00"), "[0]: sha256: not that of its content; it was edited"),
        (edited("runs", ["r1"], 1), "[1]: sha256: not that of its content"),
        (edited("time", "yesterday"), "[0]: time: "),
        (edited("time", "2020-01-01T00:00:00"), "[0]: time: a time with its offset from UTC is expected"),
        (edited("colour", "red"), "[0]: colour: unknown key"),
        (lambda entries: entries[1:], "[0]: previous: not the entry before; one was removed or moved"),
        (lambda entries: entries[::-1], "[0]: previous: not the entry before"),
        (lambda entries: {"registrations": entries}, "a list of registrations is expected, found dict"),
        (lambda entries: [*entries, 7], "[2]: (whole file): "),
    ],
)
def test_a_file_that_is_not_as_written_is_refused_in_one_line(path, change, message):
    for words in ("a", "b"):
        register(path, content(words), PROJECT)
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    before = path.read_bytes()
    with refused("registered.json: ", message):
        read_registrations(path)
    with refused("registered.json: ", message):
        register(path, content("c"), PROJECT)
    assert path.read_bytes() == before


def test_a_cut_file_is_refused(path):
    register(path, content("a"), PROJECT)
    path.write_text(path.read_text()[:-20])
    with refused("registered.json: not valid JSON"):
        read_registrations(path)


def test_a_training_finds_the_registrations_of_every_study_that_plan_it(tmp_path, capsys):
    results = ResultsFolder(tmp_path)
    one = register(results.study("one").registered, content("a"), PROJECT)
    two = register(results.study("two").registered, content("a", runs=["r2"], study="two"), PROJECT)
    broken = results.study("torn").registered
    broken.parent.mkdir()
    broken.write_text("[")
    assert known_registrations(results.run("r1").path, "r1") == [one.sha256]
    assert known_registrations(results.run("r2").path, "r2") == [one.sha256, two.sha256]
    assert known_registrations(results.run("r3").path, "r3") == []
    assert "torn/registered.json: not valid JSON" in capsys.readouterr().out


def test_there_is_nothing_before_the_first(path):
    assert read_registrations(path) == []
