"""What was measured on: processor, kernel, compilers, and the settings that matter."""
import datetime
import json
import os
import pathlib
import platform
import re
import subprocess


def first_line_of(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return None


def read(path):
    try:
        return pathlib.Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""


def compiler_of(build):
    """As meson found it, e.g. "g++ (Debian 12.2.0-14) 12.2.0"."""
    try:
        known = json.loads(subprocess.run(["meson", "introspect", "--compilers", str(build)],
                                          capture_output=True, text=True, check=True).stdout)
        return known["host"]["cpp"]["full_version"]
    except (OSError, subprocess.CalledProcessError, ValueError, KeyError):
        return first_line_of("c++", "--version")


def describe(build):
    cpuinfo = read("/proc/cpuinfo")
    model = re.search(r"^model name\s*:\s*(.+)", cpuinfo, re.M)
    # Virtual machines often name no model: the numbers then say which it is.
    numbers = [re.search(rf"^{name}\s*:\s*(\d+)", cpuinfo, re.M) for name in ("cpu family", "model")]
    processor = model.group(1) if model else platform.machine()
    if all(numbers):
        processor += " (family {}, model {})".format(*(found.group(1) for found in numbers))
    if re.search(r"^flags.*\bhypervisor\b", cpuinfo, re.M):
        processor += ", virtual machine"
    memory = re.search(r"^MemTotal:\s*(\d+)", read("/proc/meminfo"), re.M)
    pages = re.search(r"\[(\w+)\]", read("/sys/kernel/mm/transparent_hugepage/enabled"))
    crates = sorted(pathlib.Path("/usr/share/cargo/registry").glob("slotmap-1.*"))
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "memory GiB": round(int(memory.group(1)) / 2**20) if memory else None,
        "kernel": f"{platform.system()} {platform.release()}",
        "transparent huge pages": pages.group(1) if pages else "none",
        "C++ compiler": compiler_of(build),
        "rustc": first_line_of("rustc", "--version"),
        "slotmap": crates[-1].name if crates else None,
        "date": datetime.date.today().isoformat(),
    }


def lines(described):
    """For people."""
    rust = "no slotmap"
    if described["rustc"] and described["slotmap"]:
        rust = f"{described['rustc']}, {described['slotmap']}"
    return [
        f"{described['processor']}, {described['cores']} cores, {described['memory GiB']} GiB",
        f"{described['kernel']}, transparent huge pages: {described['transparent huge pages']}",
        f"{described['C++ compiler']} -O3; {rust}, opt-level 3; {described['date']}",
    ]
