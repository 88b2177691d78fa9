"""rslwm runs list | show | verify | gc | serve: the studies in a folder."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.filesize import decimal
from rich.table import Column, Table
from rich.text import Text

from rslwm.cli.output import console, counting
from rslwm.cli.play import TOKEN
from rslwm.run.progress import duration
from rslwm.run.upkeep import Verified, garbage, remove, verify
from rslwm.study.runs import StageState, StudyFolder, studies
from rslwm.types import DataError

COLOURS = {"running": "cyan", "finished": "green", "failed": "bold red", "partly": "yellow", "damaged": "bold red"}
MINUTES = "%Y-%m-%d %H:%M"


@dataclass
class RunsCommand:
    """A command about the studies in a folder."""

    folder: tyro.conf.Positional[Path] = Path("runs")
    """Of a study, or above several."""

    @property
    def studies(self) -> list[Path]:
        """Raises :class:`DataError`: there are none."""
        if found := studies(self.folder):
            return found
        raise DataError(f"there is no study in or below {self.folder}. Name what a command was given as --out.")


@dataclass
class List(RunsCommand):
    """List the studies in a folder: how far each is, of what, how large, how old, and its report.

    For instance:
      rslwm runs list
      rslwm runs list /shared/studies
    """

    def run(self) -> None:
        right, folded = Column("size", justify="right"), Column("report", overflow="fold")
        named = ("study", "state", "preset", "spaces", "seeds", "stages", right, "changed (UTC)", folded)
        table = Table(*named, box=None, header_style="dim")
        for root in self.studies:
            study = StudyFolder.read(root)
            stages = study.wanted
            table.add_row(
                Text(str(root if root == self.folder else root.relative_to(self.folder))),
                _coloured(study.state),
                Text(study.preset or "-"),
                str(len(study.spaces) or "-"),
                str(len(study.seeds) or "-"),
                f"{sum(stage.done for stage in stages)}/{len(stages)}" if stages else "-",
                decimal(study.bytes),
                f"{study.when:{MINUTES}}",
                Text("\n".join(str(page.relative_to(root)) for page in study.reports) or "-"),
            )
        console().print(table)


@dataclass
class Show(RunsCommand):
    """Say all about one study: the commands, its stages with their states, seconds and bytes, and what made them.

    For instance:
      rslwm runs show runs/demo
    """

    def run(self) -> None:
        study = StudyFolder.read(self.folder)
        screen, done = console(), sum(stage.done for stage in study.wanted)
        by = f" by {study.holder}" if study.holder else ""
        screen.print(Text(f"{study.root}: ").append(_coloured(study.state)).append(by), soft_wrap=True)
        facts = {
            "commands": "\n".join(study.commands) or "not noted",
            "spaces": ", ".join(study.spaces) or "-",
            "seeds": ", ".join(map(str, study.seeds)) or "-",
            "stages": f"{done} of {len(study.wanted)} are there; {_seconds(study.stages)} to make them",
            "size": decimal(study.bytes),
            "changed": f"{study.when:{MINUTES}} UTC",
            "made with": "\n".join(_versions(study.stages)) or "-",
            "reports": "\n".join(map(str, study.reports)) or "-",
        }
        about = Table(Column(style="dim"), Column(overflow="fold"), box=None, show_header=False)
        for name, text in facts.items():
            about.add_row(name, Text(text))
        screen.print(about, "", _stages(study.stages), highlight=False)


def _coloured(state: str) -> Text:
    return Text(state, COLOURS.get(state, ""))


def _seconds(stages: Iterable[StageState]) -> str:
    return duration(sum(stage.record.seconds for stage in stages if stage.record))


def _versions(stages: Iterable[StageState]) -> list[str]:
    """Every combination that stages were made with, and how many of them."""
    made = Counter(
        ", ".join(f"{name} {version}" for name, version in stage.record.versions.items())
        for stage in stages
        if stage.record
    )
    return [f"{versions} ({count} stages)" if len(made) > 1 else versions for versions, count in made.most_common()]


def _stages(stages: Iterable[StageState]) -> Table:
    table = Table("stage", "of", "key", "state", box=None, header_style="dim")
    table.add_column("took", justify="right")
    table.add_column("size", justify="right")
    table.add_column("", overflow="fold")
    for stage in stages:
        took = duration(stage.record.seconds) if stage.record else ""
        why = f"from {stage.record.fetched}" if stage.record and stage.record.fetched else stage.why
        where, written = stage.planned, decimal(stage.bytes) if stage.bytes else ""
        table.add_row(where.kind, Text(where.label), where.key, _coloured(stage.state), took, written, Text(why))
    return table


@dataclass
class Verify(RunsCommand):
    """Read every file that the finished stages of a folder's studies left, and compare it with what was noted when they
    ended; exit code 1 if one isn't what it was.

    For instance:
      rslwm runs verify runs/demo
    """

    def run(self) -> int:
        damaged = False
        for root in self.studies:
            with counting(str(root)) as progress:
                found = verify(root, progress)
            console().print(f"{root}: {_summary(found)}", markup=False, highlight=False, soft_wrap=True)
            for finding in found.findings:
                console().print(f"  {finding}", style="red", markup=False, highlight=False, soft_wrap=True)
            if found.findings:
                damaged = True
                folders = dict.fromkeys(str(finding.folder) for finding in found.findings)
                commands = StudyFolder.read(root).commands or ("the command that made it",)
                text = f"  Delete {', '.join(folders)}, then run again: {commands[-1]}"
                console().print(text, markup=False, highlight=False, soft_wrap=True)
        return int(damaged)


def _summary(found: Verified) -> str:
    stages = {finding.stage for finding in found.findings}
    sound = f"{found.stages} stages, {found.files} files, {decimal(found.bytes)} read; "
    older = f"; {len(found.unverifiable)} older stages can't be verified, as their records name no files"
    damage = f"{len(stages)} damaged" if stages else "none damaged"
    return sound + damage + (older if found.unverifiable else "")


@dataclass
class Gc(RunsCommand):
    """List what no command of a folder's studies needs any more, and with --yes delete it: stages that a later run of
    the same command superseded, and unfinished ones of those. What a killed run would go on from is kept.

    For instance:
      rslwm runs gc runs/demo
      rslwm runs gc runs --yes
    """

    yes: bool = False
    """Delete it."""
    partial: bool = False
    """Also what a killed run would go on from."""

    def run(self) -> None:
        screen, freed = console(), 0
        for root in self.studies:
            found = garbage(root, self.partial)
            for each in found:
                text = f"{each.folder}  {decimal(each.bytes)}  {each.why}"
                screen.print(text, markup=False, highlight=False, soft_wrap=True)
            if self.yes:
                remove(root, found)
            freed += sum(each.bytes for each in found)
        what = f"{decimal(freed)} deleted" if self.yes else f"{decimal(freed)} to delete; nothing is, without --yes"
        screen.print(what if freed or self.yes else "nothing to delete", highlight=False)


@dataclass
class Serve(RunsCommand):
    """Show the studies in a folder on a local page: how far each is, live, and its report.

    Others than this machine may look only with the token in the environment variable RSLWM_TOKEN.

    For instance:
      rslwm runs serve
      rslwm runs serve /shared/studies --port 9000
    """

    host: str = "127.0.0.1"
    """Where it listens."""
    port: int = 8766
    """Where it listens; 0 is any free port."""

    def run(self) -> None:
        from rslwm.play.runs import server
        from rslwm.play.server import address, listener

        token = os.environ.get(TOKEN, "")
        if not self.folder.is_dir():
            raise DataError(f"{self.folder} is no folder; name one with studies in it")
        listening = listener(self.host, self.port, token)
        where = address(listening, self.host, token)
        console().print(f"open {where} in a browser; Ctrl-C stops it.", markup=False, soft_wrap=True)
        server(self.folder, token).run(sockets=[listening])
