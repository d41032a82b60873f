"""`Scripts/setup`: what it installs, how it becomes root, and what it says, with stand-ins for the system's programs."""

import subprocess

import pytest
from millrace_tests.server import ROOT

BUILD = {"build-essential", "pkg-config", "libzstd-dev", "liblz4-dev", "libsnappy-dev", "zlib1g-dev", "liburing-dev",
         "libpcre2-dev", "libssl-dev"}


@pytest.fixture
def system(tmp_path):
    """A PATH of stand-ins: `installed` packages, `uid`, whether there is `sudo`. Gives a function that runs the script."""
    programs = tmp_path / "bin"
    programs.mkdir()
    calls = tmp_path / "calls"
    calls.touch()

    def program(name, body):
        (programs / name).write_text(f"#!/bin/bash\n{body}\n")
        (programs / name).chmod(0o755)

    def run(installed=(), uid=0, sudo=True, apt_works=True, swift_version="6.2", argument="build"):
        program("dpkg-query", f'name="${{@: -1}}"; case " {" ".join(installed)} " in *" $name "*) echo -n installed;; '
                              "*) exit 1;; esac")
        program("apt-get", f'echo "apt-get $*" >> {calls}; '
                           + ("exit 0" if apt_works else '[ "$1" = update ] && touch "$0.updated"; [ -e "$0.updated" ]'))
        program("id", f"echo {uid}")
        program("swift", f"echo 'Swift version {swift_version} (stand-in)'")
        (programs / "sudo").unlink(missing_ok=True)
        if sudo:
            program("sudo", f'echo "sudo $*" >> {calls}; "$@"')
        for name in ("bash", "env", "dirname", "sed", "head", "grep", "cmp", "cp", "touch"):
            if not (programs / name).exists():
                (programs / name).symlink_to(f"/usr/bin/{name}")
        calls.write_text("")
        done = subprocess.run([str(ROOT / "Scripts" / "setup"), argument], capture_output=True, text=True, timeout=60,
                              env={"PATH": str(programs), "HOME": str(tmp_path)}, cwd=ROOT)
        return done, calls.read_text().splitlines()

    return run


def test_when_all_is_there_it_says_and_does_nothing(system):
    done, calls = system(installed=BUILD, uid=1000)
    assert (done.returncode, done.stdout, done.stderr, calls) == (0, "", "", [])


def test_root_installs_what_is_missing_by_name_and_says_so(system):
    done, calls = system(installed=BUILD - {"liblz4-dev", "pkg-config"})
    assert done.returncode == 0
    assert "installing pkg-config liblz4-dev" in done.stderr and "sudo" not in done.stderr
    (call,) = calls
    assert call.startswith("apt-get install") and call.endswith("pkg-config liblz4-dev")


def test_others_use_sudo_and_are_told(system):
    done, calls = system(installed=BUILD - {"zlib1g-dev"}, uid=1000)
    assert done.returncode == 0 and "installing zlib1g-dev (with sudo)" in done.stderr
    assert calls[0].startswith("sudo apt-get install") and calls[0].endswith("zlib1g-dev")


def test_without_sudo_it_says_what_root_has_to_install(system):
    done, calls = system(installed=BUILD - {"zlib1g-dev"}, uid=1000, sudo=False)
    assert done.returncode == 1 and calls == []
    assert "apt-get install zlib1g-dev" in done.stderr


def test_package_lists_are_refreshed_when_the_first_attempt_fails(system):
    done, calls = system(installed=BUILD - {"zlib1g-dev"}, apt_works=False)
    assert done.returncode == 0 and "refreshing" in done.stderr
    assert [call.split()[1] for call in calls] == ["install", "update", "install"]


def test_an_old_toolchain_is_refused_with_its_version(system):
    done, _ = system(installed=BUILD, swift_version="6.1.2")
    assert done.returncode == 1 and "6.1" in done.stderr and "6.2" in done.stderr
