"""`millrace new job --url`: the package as it comes from a repository: SwiftPM finds Millrace in it, under the name that is written."""

import subprocess

import pytest
from millrace_tests.server import ROOT, run

PATIENCE_SECONDS = 120


def swift():
    return subprocess.run([ROOT / "Scripts" / "setup", "swift"], capture_output=True, text=True, check=True).stdout.strip()


def git(*arguments):
    subprocess.run(["git", "-C", ROOT, *arguments], check=True, capture_output=True, timeout=PATIENCE_SECONDS)


@pytest.fixture
def repository(tmp_path):
    """Makes a repository of this name, whose branch main is what is checked out here."""

    def make(name):
        path = tmp_path / name
        subprocess.run(["git", "init", "--quiet", "--bare", path], check=True)
        # Whatever of its history the checkout has.
        subprocess.run(["git", "-C", path, "config", "receive.shallowUpdate", "true"], check=True)
        git("push", "--quiet", path, "HEAD:refs/heads/main")
        return f"file://{path}"

    return make


@pytest.mark.parametrize("name", ["millrace.git", "Mill-Fork"])
def test_a_package_that_takes_millrace_from_a_repository_is_resolved_and_built(repository, tmp_path, monkeypatch, name):
    """All of it takes minutes to build; the library's C part says that products and targets were found."""
    url = repository(name)
    monkeypatch.chdir(tmp_path)
    done = run("new", "job", "word-counts", "--url", url)
    assert done.returncode == 0, done.stderr
    # A cache of its own, so that nothing of it stays.
    done = subprocess.run(
        [swift(), "build", "--package-path", "word-counts", "--cache-path", "cache", "--target", "CMillraceSystem"],
        capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "CMillraceSystem" in done.stdout and "warning" not in done.stdout + done.stderr
