"""Who started this run: a continuous-integration service or a batch scheduler, and which of its jobs it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from capsula.core.secrets import mask

if TYPE_CHECKING:
    from capsula.core.found import Value


@dataclass(frozen=True, slots=True)
class _Service:
    """`mark` is a variable that it alone sets. The others name the variables with the job's number and page;
    `page` may be put together from several, in braces."""

    name: str
    mark: str
    job: str = ""
    page: str = ""
    more: tuple[tuple[str, str], ...] = ()


_CI = (
    _Service(
        "GitHub Actions",
        "GITHUB_ACTIONS",
        "GITHUB_RUN_ID",
        "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}",
        (("attempt", "GITHUB_RUN_ATTEMPT"), ("step", "GITHUB_JOB")),
    ),
    _Service("GitLab CI", "GITLAB_CI", "CI_JOB_ID", "{CI_JOB_URL}"),
    _Service("Jenkins", "JENKINS_URL", "BUILD_TAG", "{BUILD_URL}"),
    _Service("Buildkite", "BUILDKITE", "BUILDKITE_JOB_ID", "{BUILDKITE_BUILD_URL}#{BUILDKITE_JOB_ID}"),
    _Service("CircleCI", "CIRCLECI", "CIRCLE_BUILD_NUM", "{CIRCLE_BUILD_URL}"),
    _Service(
        "Azure Pipelines",
        "TF_BUILD",
        "BUILD_BUILDID",
        "{SYSTEM_TEAMFOUNDATIONCOLLECTIONURI}{SYSTEM_TEAMPROJECT}/_build/results?buildId={BUILD_BUILDID}",
    ),
    _Service("Travis CI", "TRAVIS", "TRAVIS_JOB_ID", "{TRAVIS_JOB_WEB_URL}"),
    _Service("TeamCity", "TEAMCITY_VERSION", "BUILD_NUMBER", "{BUILD_URL}"),
    _Service("Bitbucket Pipelines", "BITBUCKET_BUILD_NUMBER", "BITBUCKET_BUILD_NUMBER"),
    _Service("Drone", "DRONE", "DRONE_BUILD_NUMBER", "{DRONE_BUILD_LINK}"),
    _Service("AWS CodeBuild", "CODEBUILD_BUILD_ID", "CODEBUILD_BUILD_ID", "{CODEBUILD_PUBLIC_BUILD_URL}"),
    _Service("unknown", "CI"),
)
_SCHEDULERS = (
    _Service(
        "Slurm",
        "SLURM_JOB_ID",
        "SLURM_JOB_ID",
        more=(
            ("name", "SLURM_JOB_NAME"),
            ("cluster", "SLURM_CLUSTER_NAME"),
            ("queue", "SLURM_JOB_PARTITION"),
            ("nodes", "SLURM_JOB_NODELIST"),
            ("array_job", "SLURM_ARRAY_JOB_ID"),
            ("array_index", "SLURM_ARRAY_TASK_ID"),
            ("rank", "SLURM_PROCID"),
        ),
    ),
    _Service(
        "PBS",
        "PBS_JOBID",
        "PBS_JOBID",
        more=(("name", "PBS_JOBNAME"), ("queue", "PBS_QUEUE"), ("array_index", "PBS_ARRAY_INDEX")),
    ),
    _Service(
        "LSF",
        "LSB_JOBID",
        "LSB_JOBID",
        more=(
            ("name", "LSB_JOBNAME"),
            ("queue", "LSB_QUEUE"),
            ("nodes", "LSB_HOSTS"),
            ("array_index", "LSB_JOBINDEX"),
        ),
    ),
    _Service(
        "Grid Engine",
        "SGE_TASK_ID",
        "JOB_ID",
        more=(("name", "JOB_NAME"), ("queue", "QUEUE"), ("array_index", "SGE_TASK_ID")),
    ),
    _Service("Flux", "FLUX_JOB_ID", "FLUX_JOB_ID", more=(("rank", "FLUX_TASK_RANK"),)),
    _Service(
        "AWS Batch",
        "AWS_BATCH_JOB_ID",
        "AWS_BATCH_JOB_ID",
        more=(("queue", "AWS_BATCH_JQ_NAME"), ("array_index", "AWS_BATCH_JOB_ARRAY_INDEX")),
    ),
    _Service("HTCondor", "_CONDOR_JOB_AD", "_CONDOR_SLOT"),
)


def ci(environ: Mapping[str, str]) -> Value:
    return _described(_CI, environ)


def scheduler(environ: Mapping[str, str]) -> Value:
    return _described(_SCHEDULERS, environ)


def _described(services: tuple[_Service, ...], environ: Mapping[str, str]) -> Value:
    """None when it is none of these. What isn't known of a job is left out."""
    for service in services:
        if environ.get(service.mark) and environ[service.mark].lower() not in ("false", "0", "undefined"):
            facts = {"job": environ.get(service.job), "url": _filled(service.page, environ)}
            facts |= {name: environ.get(variable) for name, variable in service.more}
            return {"name": service.name, **{name: mask(value) for name, value in facts.items() if value}}
    return None


def _filled(page: str, environ: Mapping[str, str]) -> str | None:
    """A page with all its variables in their places, None when one isn't set."""
    try:
        return page.format_map(environ) or None
    except KeyError:
        return None
