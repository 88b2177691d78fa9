"""Success of what was asked for: the instruction counts, and alone it tells nothing."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from measured import Subject, measure, select, summary, what_is_done
from point_world import Recalls, write_corpus, write_latents
from rslwm.compute import ComputeConfig
from rslwm.data.corpus import Corpus
from rslwm.evals.base import NotAvailable
from rslwm.evals.instructed import DIMS, InstructedProbe, Instructions, embedding
from rslwm.evals.probe import ProbeConfig, train_probe
from rslwm.optim import OptimConfig

NAME, AUC = "success_instructed", "success_instructed_auc"


@pytest.fixture
def wide(evaluation: Subject, tmp_path: Path) -> Subject:
    """40 episodes; two of three are told what to do."""
    corpus = write_corpus(tmp_path, [bool(i % 2) for i in range(40)])
    latents = write_latents(corpus, tmp_path / "latents")
    probes = evaluation.probes | {"success-instructed": Recalls(corpus, latents, what_is_done(corpus))}
    return replace(evaluation, corpus=corpus, latents=latents, probes=probes)


def test_who_knows_what_was_done_is_perfect(wide: Subject) -> None:
    rows = measure(NAME, wide)
    assert summary(rows, AUC) == 1
    assert summary(rows, AUC, "floor") < 0.7


def test_own_instructions_stand_against_those_of_other_tasks_and_failures(wide: Subject) -> None:
    rows, dataset = select(measure(NAME, wide), AUC), wide.corpus.dataset
    told = [e for e in wide.corpus.test if dataset.instructions[e]]
    done = [dataset.ids[e] for e in told if dataset.success[e]]
    assert sorted(row.unit for row in rows if row.target) == sorted(done)
    others = [dataset.ids[e] for e in told if not dataset.success[e]] + done
    assert sorted(row.unit for row in rows if not row.target) == sorted(others)


def test_who_reads_success_and_no_instruction_tells_half(wide: Subject) -> None:
    """Failures are told from successes; the same frames under two instructions aren't."""
    told = Instructions.of(wide.corpus).embeddings
    blind = [(2.0 * bool(s) - 1) * told[:6].sum(0).expand(int(n), -1) for s, n in _outcomes(wide.corpus)]
    wide.probes["success-instructed"] = Recalls(wide.corpus, wide.latents, blind)  # type: ignore[arg-type]
    assert 0.5 < summary(measure(NAME, wide), AUC) < 0.9


def _outcomes(corpus: Corpus) -> list[tuple[bool | None, int]]:
    return [*zip(corpus.dataset.success, corpus.dataset.lengths.tolist(), strict=True)]


def test_who_reads_the_instruction_alone_is_at_the_floor(wide: Subject) -> None:
    same = [
        torch.randn(DIMS, generator=torch.Generator().manual_seed(0)).expand(n, -1) for _, n in _outcomes(wide.corpus)
    ]
    wide.probes["success-instructed"] = Recalls(wide.corpus, wide.latents, same)  # type: ignore[arg-type]
    rows = measure(NAME, wide)
    assert summary(rows, AUC) == summary(rows, AUC, "floor")


def test_frames_of_another_episode_are_no_better_than_the_floor(wide: Subject) -> None:
    """Labels swapped across episodes."""
    known = what_is_done(wide.corpus)
    moved = [known[(i + 5) % len(known)] for i in range(len(known))]
    wide.probes["success-instructed"] = Recalls(wide.corpus, wide.latents, moved)  # type: ignore[arg-type]
    assert summary(measure(NAME, wide), AUC) < 0.7


def test_permuted_labels_give_chance(
    wide: Subject, compute: ComputeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.random.default_rng(0).permutation(np.array(wide.corpus.dataset.success)).tolist()
    monkeypatch.setattr(wide.corpus.dataset, "success", labels)
    config = ProbeConfig(width=8, optim=OptimConfig(steps=60, batch_size=32, lr=1e-2, warmup=5))
    probe = InstructedProbe(7, noise=0.5)
    wide.probes["success-instructed"] = train_probe(
        probe, wide.corpus, wide.latents, config, 0, tmp_path / "probe", compute
    )
    assert abs(summary(measure(NAME, wide), AUC) - 0.5) < 0.25


def test_the_loss_is_that_of_a_logistic_regression() -> None:
    guess, told = torch.randn(5, DIMS), torch.randn(5, DIMS)
    done, weight = torch.tensor([1.0, 0, 1, 0, 0]), torch.rand(5)
    expected = F.binary_cross_entropy_with_logits((guess * told).sum(1), done, weight=weight)
    signed = told * (2 * done - 1)[:, None]
    assert torch.allclose(InstructedProbe(7).loss(guess, signed, weight[:, None].expand(-1, DIMS)), expected)


def test_both_labels_weigh_the_same(wide: Subject) -> None:
    draw = InstructedProbe(7).batches(wide.corpus, wide.latents, 4000)
    _, target, weight = draw(torch.Generator().manual_seed(0))
    told = Instructions.of(wide.corpus).embeddings
    done = torch.tensor([bool((torch.isclose(told, t, atol=1e-6).all(1)).any()) for t in target])
    assert float(weight[done, 0].sum() / weight[:, 0].sum()) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("Push the red cube!", "push the red cube", True),
        ("put the red cube on the blue square", "put the blue cube on the red square", False),
        ("open the drawer", "close the drawer", False),
    ],
)
def test_words_and_their_order_are_embedded(one: str, other: str, alike: bool) -> None:
    cosine = float(embedding(one) @ embedding(other))
    assert cosine == pytest.approx(1) if alike else cosine < 0.9
    assert np.linalg.norm(embedding(one)) == pytest.approx(1)


def test_an_embedding_is_the_same_in_every_process() -> None:
    """Python's own hash isn't. Of one word the place and the sign follow from its digest."""
    assert np.flatnonzero(embedding("drawer")).tolist() == [int(np.abs(embedding("drawer")).argmax())]
    assert not embedding("").any()


Change = Callable[[Corpus], None]


def told_nothing(corpus: Corpus) -> None:
    vars(corpus.dataset)["instructions"] = [""] * len(corpus.dataset)


def told_the_same(corpus: Corpus) -> None:
    vars(corpus.dataset)["instructions"] = ["open the drawer"] * len(corpus.dataset)


@pytest.mark.parametrize("change", [told_nothing, told_the_same])
def test_without_several_instructions_it_is_unavailable(change: Change, wide: Subject) -> None:
    change(wide.corpus)
    with pytest.raises(NotAvailable, match="no instructions, or all the same"):
        measure(NAME, wide)
    with pytest.raises(NotAvailable, match="no instructions, or all the same"):
        InstructedProbe(7).batches(wide.corpus, wide.latents, 8)


def test_tasks_are_targets_and_goals_where_they_are_recorded(wide: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    info = [{"target": "red", "goal": ("plate", "zone")[i % 2]} for i in range(40)]
    monkeypatch.setattr(wide.corpus.dataset, "info", info)
    assert {*Instructions.of(wide.corpus).tasks} == {"red plate", "red zone", ""}
