"""Which job of which service a run is, as the services' own variables say."""

import pytest

from capsula.probe import job


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({}, None),
        ({"CI": "false"}, None),
        ({"CI": "1"}, {"name": "unknown"}),
        (
            {
                "CI": "true",
                "GITHUB_ACTIONS": "true",
                "GITHUB_RUN_ID": "17",
                "GITHUB_SERVER_URL": "https://github.com",
                "GITHUB_REPOSITORY": "me/x",
                "GITHUB_JOB": "test",
            },
            {
                "name": "GitHub Actions",
                "job": "17",
                "url": "https://github.com/me/x/actions/runs/17",
                "step": "test",
            },
        ),
        ({"GITLAB_CI": "true", "CI_JOB_ID": "3"}, {"name": "GitLab CI", "job": "3"}),
        (
            {"JENKINS_URL": "x", "BUILD_TAG": "b-1", "BUILD_URL": "https://me:k3Fs9xQ2word@j/1"},
            {"name": "Jenkins", "job": "b-1", "url": "https://***@j/1"},
        ),
    ],
)
def test_a_service_is_told_with_its_job_and_page(environ: dict[str, str], told: object) -> None:
    assert job.ci(environ) == told


def test_a_batch_job_is_told_with_where_it_runs() -> None:
    environ = {
        "SLURM_JOB_ID": "42", "SLURM_JOB_PARTITION": "gpu", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_ARRAY_TASK_ID": "7",
    }  # fmt: skip
    assert job.scheduler(environ) == {
        "name": "Slurm",
        "job": "42",
        "queue": "gpu",
        "nodes": "n[1-2]",
        "array_index": "7",
    }
    assert job.scheduler({"SGE_TASK_ID": "undefined", "JOB_ID": "5"}) is None
    assert job.scheduler({"PBS_JOBID": "5.host"}) == {"name": "PBS", "job": "5.host"}
