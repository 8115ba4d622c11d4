"""Where things lie and what names mean: nearer settings win, and a wrong file is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from stillhouse.errors import SpecError
from stillhouse.settings import CONFIG_NAME, load_settings


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder of its own, with no variable set."""
    for name in ("STILLHOUSE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(folder)
    return folder


def write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / CONFIG_NAME
    path.write_text(text)
    return path


def test_the_folders_of_a_plain_machine(home: Path) -> None:
    found = load_settings()
    assert found.home == home / ".local/share/stillhouse"
    assert found.cache == home / ".cache/stillhouse"
    assert found.sources == {}


def test_variables_move_them(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert load_settings().home == tmp_path / "data/stillhouse"
    assert load_settings().cache == tmp_path / "cache/stillhouse"
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path / "store"))
    assert load_settings().home == tmp_path / "store"


def test_a_relative_home_starts_here_and_stays_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLHOUSE_HOME", "store")
    found = load_settings().home
    monkeypatch.chdir("/")
    assert found == home / "store"


@pytest.mark.parametrize("name", ["XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"])
def test_relative_xdg_folders_do_not_count(home: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The XDG Base Directory Specification: paths must be absolute, others are ignored."""
    write(home / "odd" / "stillhouse", "sources: {models:a: file:///wrong}")
    monkeypatch.setenv(name, "odd")
    found = load_settings()
    assert found.home == home / ".local/share/stillhouse"
    assert found.cache == home / ".cache/stillhouse"
    assert found.sources == {}


def test_nearer_settings_win_and_keep_their_own_folder(home: Path, tmp_path: Path) -> None:
    write(home / ".config/stillhouse", "sources: {models:a: file:///user, models:b: file:///user, models:c: file:///user}")
    write(tmp_path, "sources: {models:a: never}")
    write(tmp_path / "project", "sources: {models:b: near, data:d: near}")
    inner = tmp_path / "project" / "deep" / "deeper"
    inner.mkdir(parents=True)

    found = load_settings(inner, {"models:c": "given"}).sources
    assert found == {
        "models:a": ("file:///user", home / ".config/stillhouse"),
        "models:b": ("near", (tmp_path / "project").resolve()),
        "data:d": ("near", (tmp_path / "project").resolve()),
        "models:c": ("given", home),
    }


def test_only_the_closest_file_above_counts(home: Path, tmp_path: Path) -> None:
    write(tmp_path / "a", "sources: {models:x: outer}")
    write(tmp_path / "a" / "b", "sources: {models:y: inner}")
    assert set(load_settings(tmp_path / "a" / "b").sources) == {"models:y"}
    assert set(load_settings(tmp_path / "a").sources) == {"models:x"}


def test_a_file_may_be_given_instead_of_its_folder(home: Path, tmp_path: Path) -> None:
    write(tmp_path / "p", "sources: {models:x: there}")
    file = tmp_path / "p" / "model.yaml"
    file.write_text("")
    assert set(load_settings(file).sources) == {"models:x"}


@pytest.mark.parametrize("text", ["", "# nothing\n", "sources:\n", "sources: {}\n"])
def test_nothing_said_is_nothing_set(home: Path, tmp_path: Path, text: str) -> None:
    write(tmp_path / "p", text)
    assert load_settings(tmp_path / "p").sources == {}


WRONG = {
    "no YAML": ("sources: {", "not readable"),
    "no text": ("\udcff", "not readable"),
    "a list": ("[1]", "one key"),
    "an empty list": ("[]", "one key"),
    "false": ("false", "one key"),
    "sources as an empty list": ("sources: []", "one key"),
    "another key": ("sources: {}\nhome: /x", "one key"),
    "sources as a list": ("sources: [a]", "one key"),
    "a URI that is a number": ("sources: {models:a: 7}", "points to a URI"),
    "a name without its kind": ("sources: {minilm: file:///x}", "kind:name"),
    "a name that is a number": ("sources: {7: file:///x}", "kind:name"),
    "a URI as the name": ("sources: {'file://x': file:///x}", "kind:name"),
    "code": ("sources: {models:a: !!python/object/apply:os.getcwd []}", "not readable"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_file_is_named(home: Path, tmp_path: Path, kind: str) -> None:
    text, says = WRONG[kind]
    folder = tmp_path / "p"
    folder.mkdir()
    (folder / CONFIG_NAME).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(SpecError, match=says) as refused:
        load_settings(folder)
    assert str(folder.resolve()) in refused.value.problem.field
    assert refused.value.problem.found
