"""A model behind HTTP as a judge, against a real server that answers well, badly, late or not at all."""

import base64
import io
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chat_server import (
    Chat,
    Handler,
    body,
    breaks_off,
    completion,
    drips,
    fails,
    hangs_up,
    says,
    serving,
    sleeps,
    token,
)
from PIL import Image

from rslwm.evals.judges.base import Footage, Verdicts, concord, consensus
from rslwm.evals.judges.endpoint import EndpointConfig
from rslwm.evals.judges.vision_language import VisionLanguageConfig, VisionLanguageJudge, still_times
from rslwm.serialisation import ConfigError, to_dict
from rslwm.types import DataError

DONE, FAILED = says("It is there.\nFinal Score: 1"), says("It lies elsewhere.\nFinal Score: 0")


@pytest.fixture
def chat() -> Iterator[Chat]:
    with serving(DONE) as chat:
        yield chat


def judge(chat: Chat, folder: Path, deadline: float = 20.0, workers: int = 1, **endpoint: Any) -> VisionLanguageJudge:
    quick = {"backoff": 0.01, "attempts": 4, **endpoint}
    asked = EndpointConfig(chat.url, "judge-1", **quick)
    return VisionLanguageJudge(
        VisionLanguageConfig(asked, folder=str(folder), deadline=deadline, workers=workers, side=32)
    )


def footage(trials: int = 1, seed: int = 0, frames: int = 20) -> Footage:
    video = np.random.default_rng(seed).integers(0, 255, (trials, frames, 16, 16, 3), np.uint8)
    return Footage(("put the red cube on the plate",) * trials, frames=video)


def test_it_is_asked_as_openai_s_protocol_has_it(chat: Chat, tmp_path: Path) -> None:
    trial = footage()
    verdicts = judge(chat, tmp_path, seed=7).judge(trial)
    assert (verdicts.score, verdicts.success, verdicts.raw) == (1, True, ("It is there.\nFinal Score: 1",))
    assert chat.paths == ["/v1/chat/completions"]
    asked = chat.asked[0]
    assert (asked["model"], asked["temperature"], asked["seed"], asked["logprobs"]) == ("judge-1", 0, 7, True)
    *images, text = asked["messages"][0]["content"]
    assert {image["type"] for image in images} == {"image_url"}
    assert '"put the red cube on the plate"' in text["text"]
    assert "0.5" not in text["text"]
    times = still_times(20)
    assert len(images) == len(times)
    assert trial.frames is not None
    for image, t in zip(images, times, strict=True):
        head, data = image["image_url"]["url"].split(",")
        assert head == "data:image/jpeg;base64"
        sent = Image.open(io.BytesIO(base64.b64decode(data)))
        assert (sent.format, sent.size) == ("JPEG", (32, 32))
        small = np.asarray(sent.resize((4, 4), Image.Resampling.BOX), float)
        true = np.asarray(Image.fromarray(trial.frames[0, t]).resize((4, 4), Image.Resampling.BOX), float)
        assert np.abs(small - true).mean() < 12  # of another frame it would be some 25


def test_a_partial_criterion_brings_the_half(chat: Chat, tmp_path: Path) -> None:
    chat.usual = says("Final Score: 0.5")
    asks = judge(chat, tmp_path)
    assert asks.judge(footage()).unjudged == 1
    words = {"put the red cube on the plate": "the cube was lifted"}
    graded = VisionLanguageJudge(replace(asks.config, partial=words)).judge(footage())
    assert (graded.score, graded.success) == (0.5, True)
    assert (
        "0.5: partly accomplished, that is: the cube was lifted" in chat.asked[1]["messages"][0]["content"][-1]["text"]
    )


def test_probabilities_grade_the_score_and_the_word_decides(chat: Chat, tmp_path: Path) -> None:
    tokens = [token("Final Score:"), token(" 0", **{" 1": 0.4})]
    chat.usual = says("Final Score: 0", tokens)
    verdicts = judge(chat, tmp_path).judge(footage())
    assert verdicts.score == pytest.approx(0.4)
    assert not verdicts.success


def test_a_judged_trial_is_never_paid_for_twice(chat: Chat, tmp_path: Path) -> None:
    trials = footage(3)
    first = judge(chat, tmp_path)
    before = first.judge(trials)
    assert len(chat.asked) == first.spent.requests == 3
    again = judge(chat, tmp_path)
    after = again.judge(trials)
    assert len(chat.asked) == 3
    assert again.spent.requests == 0
    assert (before.score.tolist(), before.raw) == (after.score.tolist(), after.raw)
    twice = Footage(trials.instructions * 2, frames=np.concatenate([footage(3, 1).frames] * 2))  # type: ignore[list-item]
    assert len(judge(chat, tmp_path).judge(twice).score) == 6
    assert len(chat.asked) == 6


def test_garbage_isn_t_paid_for_twice_either(chat: Chat, tmp_path: Path) -> None:
    chat.usual = says("As a model I can't tell.")
    for _ in range(2):
        verdicts = judge(chat, tmp_path).judge(footage())
        assert (verdicts.unjudged, verdicts.raw) == (1, ("As a model I can't tell.",))
    assert len(chat.asked) == 1


@pytest.mark.parametrize(
    "change",
    [{"model": "judge-2"}, {"temperature": 0.5}, {"seed": 1}, {"max_tokens": 100}, {"body": {"top_p": 0.5}}],
    ids=str,
)
def test_another_question_is_asked_anew(change: dict, chat: Chat, tmp_path: Path) -> None:
    one = judge(chat, tmp_path)
    one.judge(footage())
    other = VisionLanguageJudge(replace(one.config, endpoint=replace(one.config.endpoint, **change)))
    other.judge(footage())
    assert len(chat.asked) == 2


def test_another_video_or_instruction_is_asked_anew_and_another_address_not(chat: Chat, tmp_path: Path) -> None:
    one, trial = judge(chat, tmp_path), footage()
    one.judge(trial)
    one.judge(Footage(("open the drawer",), frames=trial.frames))
    changed = footage()
    assert changed.frames is not None
    changed.frames[0, -1, 0, 0, 0] ^= 1
    one.judge(changed)
    assert len(chat.asked) == 3
    moved = replace(one.config.endpoint, url=chat.url + "/", timeout=3.0)
    VisionLanguageJudge(replace(one.config, endpoint=moved)).judge(trial)
    assert len(chat.asked) == 3


def test_garbage_is_unjudged_counted_and_no_failure(
    chat: Chat, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chat.script = [DONE, says("no idea"), says(None), says("Final Score: 7"), FAILED]
    verdicts = judge(chat, tmp_path).judge(footage(5))
    assert verdicts.judged.tolist() == [True, False, False, False, True]
    assert (verdicts.unjudged, verdicts.rate.successes, verdicts.rate.trials) == (3, 1, 2)
    assert "3 of 5 trials are unjudged" in caplog.text


@pytest.mark.parametrize(
    "trouble",
    [
        fails(429, "slow down"),
        fails(500),
        fails(503, "loading"),
        hangs_up,
        breaks_off,
        sleeps(1.0),
        body(b"<html>busy</html>"),
        body(b'{"error": "overloaded"}'),
        body(b""),
    ],
    ids=["429", "500", "503", "disconnect", "half an answer", "silence", "no JSON", "no choices", "empty"],
)
def test_what_passes_is_waited_for(trouble: Any, chat: Chat, tmp_path: Path) -> None:
    chat.script = [trouble, trouble]
    asks = judge(chat, tmp_path, timeout=0.3)
    assert asks.judge(footage()).success.all()
    assert len(chat.asked) == asks.spent.requests == 3
    assert asks.spent.answers == 1


def test_it_waits_as_long_as_the_server_says(chat: Chat, tmp_path: Path) -> None:
    for form, least in (("seconds", 1.0), ("date", 0.7)):  # a date has whole seconds
        later = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
        chat.script = [fails(429, Retry_After="1" if form == "seconds" else later)]
        begin = time.monotonic()
        assert judge(chat, tmp_path / form).judge(footage()).success.all()
        assert least <= time.monotonic() - begin < 3


def test_it_waits_longer_and_longer(chat: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("rslwm.evals.judges.endpoint.time.sleep", pauses.append)
    chat.script = [fails(500)] * 3
    judge(chat, tmp_path, backoff=1.0).judge(footage())
    assert [0.75 * 2**n <= pause <= 1.25 * 2**n for n, pause in enumerate(pauses)] == [True] * 3


def test_a_server_that_never_answers_leaves_trials_unjudged_and_asked_next_time(chat: Chat, tmp_path: Path) -> None:
    chat.usual = fails(500, "out of memory")
    verdicts = judge(chat, tmp_path).judge(footage(2))
    assert verdicts.unjudged == 2
    assert all("HTTP 500 out of memory (attempt 4 of 4)" in reason for reason in verdicts.raw)
    chat.usual = DONE
    assert judge(chat, tmp_path).judge(footage(2)).unjudged == 0


def test_nobody_there_is_no_failure_of_the_policy(tmp_path: Path) -> None:
    asks = judge(Chat("http://127.0.0.1:9/v1", DONE), tmp_path, attempts=2)
    verdicts = asks.judge(footage())
    assert verdicts.unjudged == 1
    assert "refused" in verdicts.raw[0]


@pytest.mark.parametrize(
    "usual", [sleeps(0.4), drips(30.0), fails(429, Retry_After="60")], ids=["slow", "drips", "429"]
)
def test_the_deadline_is_that_of_all_trials(usual: Any, chat: Chat, tmp_path: Path) -> None:
    chat.usual = usual
    begin = time.monotonic()
    verdicts = judge(chat, tmp_path, deadline=1.0).judge(footage(8))
    assert time.monotonic() - begin < 3
    assert 5 <= verdicts.unjudged <= 8
    assert len(chat.asked) <= 8


def test_questions_are_asked_at_the_same_time(chat: Chat, tmp_path: Path) -> None:
    def by_instruction(handler: Handler) -> None:
        time.sleep(0.2)
        asked = handler.request_body["messages"][0]["content"][-1]["text"]
        handler.send(200, completion(f"Final Score: {int('odd' in asked)}"))

    chat.usual = by_instruction
    video = footage(8).frames
    trials = Footage(tuple(f"{'odd' if n % 2 else 'even'} {n}" for n in range(8)), frames=video)
    begin = time.monotonic()
    verdicts = judge(chat, tmp_path, workers=8).judge(trials)
    assert time.monotonic() - begin < 1.2
    assert verdicts.success.tolist() == [False, True] * 4


@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_refusal_is_the_configuration_s_fault_and_not_tried_again(status: int, chat: Chat, tmp_path: Path) -> None:
    chat.usual = fails(status, json.dumps({"error": {"message": "no such model"}}))
    with pytest.raises(ConfigError, match=rf"HTTP {status} .*no such model.*check endpoint\.url"):
        judge(chat, tmp_path).judge(footage(4))
    assert len(chat.asked) < 4


def test_the_key_comes_from_the_environment_and_goes_nowhere_else(
    chat: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("THEIR_KEY", "sk-secret\n")
    chat.script = [fails(429, "key sk-secret is busy")]
    asks = judge(chat, tmp_path, key_variable="THEIR_KEY")
    asks.judge(footage())
    assert {headers["Authorization"] for headers in chat.headers} == {"Bearer sk-secret"}
    chat.usual = fails(401, "Incorrect API key provided: sk-secret")
    with pytest.raises(ConfigError) as refusal:
        asks.judge(footage(1, seed=1))
    written = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    for text in (written, str(refusal.value), caplog.text, repr(asks.config), json.dumps(to_dict(asks.config))):
        assert "sk-secret" not in text
    assert "***" in str(refusal.value)


def test_a_key_that_isn_t_set_is_missed_before_anything_is_sent(chat: Chat, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="environment variable NOT_SET_ANYWHERE"):
        judge(chat, tmp_path, key_variable="NOT_SET_ANYWHERE").judge(footage())
    assert not chat.asked


@pytest.mark.parametrize("status", [302, 307])
def test_no_redirection_takes_the_key_elsewhere(
    status: int, chat: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THEIR_KEY", "sk-secret")
    with serving(DONE) as other:
        chat.usual = fails(status, Location=f"{other.url}/chat/completions")
        with pytest.raises(ConfigError, match=f"HTTP {status}"):
            judge(chat, tmp_path, key_variable="THEIR_KEY").judge(footage())
        assert not other.paths


def test_tokens_and_cost_are_logged(chat: Chat, tmp_path: Path) -> None:
    asks = judge(chat, tmp_path, price_in=2.0, price_out=10.0)
    asks.judge(footage(3))
    assert (asks.spent.tokens_in, asks.spent.tokens_out) == (3000, 150)
    assert asks.spent.cost == pytest.approx(3 * (1000 * 2 + 50 * 10) / 1e6)
    lines = [json.loads(line) for line in (tmp_path / "usage.jsonl").read_text().splitlines()]
    assert [line["usage"]["prompt_tokens"] for line in lines] == [1000] * 3
    assert "3 requests, 3 answers, 3000 tokens in, 150 out, cost 0.0075" in str(asks.spent)


def test_a_server_that_counts_no_tokens_is_no_trouble(chat: Chat, tmp_path: Path) -> None:
    answer = json.loads(completion("Final Score: 1"))
    for usage in (None, {"prompt_tokens": "many"}, {}):
        chat.usual = body(json.dumps({**answer, "usage": usage}).encode())
        asks = judge(chat, tmp_path / str(usage))
        assert asks.judge(footage()).success.all()
        assert asks.spent.tokens_in == 0


def test_what_is_kept_tells_who_said_what_to_which_question(chat: Chat, tmp_path: Path) -> None:
    judge(chat, tmp_path).judge(footage())
    (path,) = tmp_path.glob("??/*.json")
    kept = json.loads(path.read_text())
    assert kept["answer"] == json.loads(completion("It is there.\nFinal Score: 1"))
    assert kept["settings"]["model"] == "judge-1"
    assert "put the red cube on the plate" in kept["prompt"]


def test_a_model_that_changes_under_its_name_is_noticed(
    chat: Chat, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chat.script = [
        says("Final Score: 1", model="judge-1-2026-01-01"),
        says("Final Score: 1", model="judge-1-2026-09-01"),
    ]
    judge(chat, tmp_path).judge(footage(2))
    assert "answers as judge-1-2026-01-01, judge-1-2026-09-01" in caplog.text


def test_several_judges_agree_by_kappa_and_have_a_consensus(chat: Chat, tmp_path: Path) -> None:
    outcomes = {"one": "1100", "other": "1010", "vague": "111x"}
    verdicts: dict[str, Verdicts] = {}
    for name, says_so in outcomes.items():
        chat.script = [says(f"Final Score: {score}") for score in says_so]
        verdicts[name] = judge(chat, tmp_path, seed=len(verdicts)).judge(footage(4))
    found = concord(verdicts)
    assert found["one", "other"].kappa == pytest.approx(0)
    assert found["one", "vague"].alike.trials == 3
    assert consensus([verdicts["one"], verdicts["other"]]).success.tolist() == [True, False, False, False]
    together = consensus([*verdicts.values()])
    assert together.judged.tolist() == [True, True, True, False]
    assert together.rate.successes == 1


def test_without_frames_there_is_nothing_to_show(chat: Chat, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no frames; decode"):
        judge(chat, tmp_path).judge(Footage(("push it",)))
