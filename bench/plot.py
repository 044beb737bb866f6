#!/usr/bin/python3
"""Draws the figures of one run of script/bench: plot.py FILE.json FOLDER

FILE.json is what `script/bench --json` writes. In FOLDER come at_once.svg, what a slot costs as
processes are added, and sizes.svg, what it costs by its size.
"""
import collections
import json
import pathlib
import statistics
import sys

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "mempool"  # the same figures make the same file
import matplotlib.pyplot as plt  # noqa: E402

FAMILIES = {
    "wide": "get and put, in N at once",
    "deep": "1,536 got, then put, by each of N",
    "cross_1": "handed over one by one, N/2 to N/2",
    "cross_32": "handed over by 32, N/2 to N/2",
}
# The others are the least that a pool does, and mempool in another way.
LEFT_OUT = ("no pool", "mempool, put by handle")


def read(path):
    """Medians in nanoseconds: case -> peer -> figure."""
    samples = collections.defaultdict(list)
    for run in json.loads(pathlib.Path(path).read_text())["benchmarks"]:
        if run["run_type"] == "iteration" and not run.get("error_occurred"):
            case, peer = run["name"].split("/")[:2]
            samples[case, peer].append(run["real_time"])
    medians = collections.defaultdict(dict)
    for (case, peer), values in samples.items():
        medians[case][peer] = statistics.median(values)
    return medians


def style(peer):
    return {"linewidth": 2.5, "color": "black", "zorder": 3} if peer == "mempool" else {"linewidth": 1}


def draw(axes, lines):
    for peer, points in sorted(lines.items()):
        points.sort()
        axes.plot(*zip(*points), marker="o", markersize=3, label=peer, **style(peer))
    axes.grid(True, which="major", alpha=0.3)


def plot_at_once(medians, path):
    figure, places = plt.subplots(2, 2, figsize=(10, 9))
    for axes, (family, title) in zip(places.flat, FAMILIES.items()):
        lines = collections.defaultdict(list)
        for case, peers in medians.items():
            name, _, count = case.rpartition("_")
            if name == family:
                for peer, ns in peers.items():
                    if not peer.startswith(LEFT_OUT):
                        lines[peer].append((int(count), ns))
        draw(axes, lines)
        axes.set(title=title, xlabel="processes (or threads)", ylabel="ns a slot", yscale="log")
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:.0f}")
    handles, labels = places.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=4, fontsize="small")
    figure.tight_layout(rect=(0, 0.1, 1, 1))  # the rest is the legend's
    figure.savefig(path, metadata={"Date": None})


def plot_sizes(medians, path):
    figure, axes = plt.subplots(figsize=(8, 5))
    lines = collections.defaultdict(list)
    for case, peers in medians.items():
        name, _, size = case.rpartition("_")
        if name == "size":
            for peer, ns in peers.items():
                lines[peer].append((int(size), ns))
    draw(axes, lines)
    axes.set(
        title="got, written, checked, returned", xlabel="bytes a slot", ylabel="ns", yscale="log"
    )
    axes.set_xscale("log", base=2)
    axes.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: plot.py FILE.json FOLDER")
    medians = read(sys.argv[1])
    folder = pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    plot_at_once(medians, folder / "at_once.svg")
    plot_sizes(medians, folder / "sizes.svg")


main()
