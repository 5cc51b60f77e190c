"""A recorded run, composed: its vault, the probes that look at the context, and what these keep on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from capsula.config.places import default_store
from capsula.core.digest import Digest
from capsula.errors import CapsulaError

if TYPE_CHECKING:
    from capsula.config.project import Project
    from capsula.engine.looking import Asked
    from capsula.ports import ActionCache, BlobStore, Probe
    from capsula.vault.vault import Vault


def open_vault(root: str) -> Vault:
    """Raises CapsulaError or OSError when the directory can't be a vault."""
    from capsula.vault.vault import Vault

    vault = Vault(root)
    vault.prepare()
    return vault


def recording_probes(
    project: Project, environ: Mapping[str, str], command: Sequence[str] = ()
) -> list[Asked]:
    """Who looks at the context, in the order in which it is written down. `command` is what will run in it."""
    from capsula.core.found import Surroundings
    from capsula.engine.looking import Asked
    from capsula.probe.plugin import PluginProbe

    wanted = project.capture
    probes = [
        Asked(probe, wanted.time_limit, probe.name.partition(":")[0] in wanted.required)
        for probe in _built_in(project, environ, command)
    ]
    around = Surroundings(project.root, environ)
    for rule in wanted.probes:
        probe = PluginProbe(rule.name, rule.module, rule.options, around)
        limit = wanted.time_limit if rule.time_limit is None else rule.time_limit
        probes.append(Asked(probe, limit, rule.name in wanted.required))
    return probes


def _built_in(project: Project, environ: Mapping[str, str], command: Sequence[str]) -> Iterator[Probe]:
    from capsula.probe.commands import CommandsProbe
    from capsula.probe.git import GitProbe, free_stem
    from capsula.probe.host import HostProbe
    from capsula.probe.python import Memory as PythonMemory
    from capsula.probe.python import PythonProbe
    from capsula.probe.snapshot import Limits
    from capsula.probe.variables import EnvironmentProbe

    wanted = project.capture
    yield HostProbe(wanted.include_cpu, environ)
    yield EnvironmentProbe(
        wanted.environment_variables,
        environ,
        keep=frozenset(wanted.keep),
        others=wanted.others,
        salt=os.urandom(16),
    )
    limits = Limits(wanted.file_limit, wanted.snapshot_limit)
    # What they start ends before they are given up, or it would go on.
    own_limit = wanted.time_limit * 0.9
    stems: set[str] = set()
    for name, path in wanted.repositories:
        stem = free_stem(name, stems)
        yield GitProbe(
            name,
            os.path.join(project.root, path),
            path,
            environ,
            limits=limits,
            contents=_Contents(environ),
            seconds=own_limit,
            stem=stem,
        )
    if wanted.files:
        yield files_probe(tuple([(rule.path, rule.hash) for rule in wanted.files]), project.root)
    yield PythonProbe(
        environ,
        command=command,
        cwd=os.getcwd(),
        memory=PythonMemory(_state(environ), wanted.check_seconds),
    )
    if wanted.commands:
        yield CommandsProbe(wanted.commands, project.root, environ, own_limit)


class _Contents:
    """The store of this machine, opened when the first file is put there."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._store: tuple[BlobStore, ActionCache] | None = None

    def put_file(self, path: str) -> Digest:
        return self._opened()[0].put_file(path)

    def hold(self, listed: bytes, files: list[tuple[str, Digest, bool]]) -> None:
        from capsula.core.digest import digest_of
        from capsula.core.reapi import ActionResult, OutputFile

        outputs = tuple([OutputFile(path=path, digest=blob, is_executable=x) for path, blob, x in files])
        blobs, cache = self._opened()
        blobs.put(listed)
        cache.store(digest_of(listed), ActionResult(output_files=outputs))

    def _opened(self) -> tuple[BlobStore, ActionCache]:
        if self._store is None:
            from capsula.plugins.cached_run import open_store

            self._store = open_store("disk", recording_store(self._environ))
        return self._store


def _state(environ: Mapping[str, str]) -> str:
    """Where is kept what saves reading; "" for nowhere: it can be done without."""
    from capsula.store.layout import STATE, claim

    try:
        root = recording_store(environ)
        claim(root)
    except (CapsulaError, OSError):
        return ""
    return f"{root}/{STATE}"


def recording_store(environ: Mapping[str, str]) -> str:
    """Where what recorded runs share is kept. NotAvailable where there is no home."""
    return default_store({os.fsencode(name): os.fsencode(value) for name, value in environ.items()})


def files_probe(rules: tuple[tuple[str, str | None], ...], root: str) -> Probe:
    from capsula.probe.files import FilesProbe

    return FilesProbe(rules, root)
