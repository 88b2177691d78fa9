"""Trust is given by a flag or the environment, for as long as a command runs."""

import pytest

from rslwm.cli import main
from rslwm.trust import VARIABLE, trusted, trusting


@pytest.fixture(autouse=True)
def nobody_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def test_nobody_is_trusted_unasked() -> None:
    assert not trusted()


def test_trust_ends_with_what_it_was_given_for() -> None:
    with trusting():
        assert trusted()
    assert not trusted()


def test_the_flag_is_every_commands_and_ends_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["latents", "list", "--trust", "raw-pixels"]) == 0
    assert "raw-pixels" in capsys.readouterr().out
    assert not trusted()
