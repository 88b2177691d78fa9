"""The audit never stands in anybody's way where its service can't be reached."""

import pytest

import audit


def test_a_service_that_is_not_there_is_said_and_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main("http://127.0.0.1:9/nothing") == 0
    assert "can't be reached; nothing was looked up" in capsys.readouterr().out
