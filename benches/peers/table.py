"""The result: medians, ratios and targets, as one Markdown table or as JSON.

Used by `run`. Pure: figures in, text out. It must never round before it divides.
"""

import statistics

# Measure → (title, unit, target for the ratio of Portcullis to the best peer).
MEASURES = {
    "http1": ("HTTP/1.1 request", "µs CPU", 0.90),
    "http2": ("HTTP/2 request", "µs CPU", 1.00),
    "handshake": ("full handshake", "µs CPU", 0.70),
    "bulk": ("GB of body", "s CPU", 1.05),
    "idle": ("idle connection", "kB", 1.00),
}
# Of a handshake with the long list to one with an empty list, for Portcullis alone.
REVOCATIONS_TARGET = 1.03
SUBJECT = "portcullis"


def _summary(figures):
    middle = statistics.median(figures)
    return {"median": middle, "spread": (max(figures) - min(figures)) / 2 / middle if middle else 0.0,
            "rounds": figures}


def _verdict(ratio, target):
    return None if ratio is None else ratio <= target


def summarised(figures, order):
    """The whole result; `figures` maps measure → proxy → figures of all rounds, in the order run."""
    result = {}
    for measure, (title, unit, target) in MEASURES.items():
        found = {name: _summary(figures[measure][name]) for name in order if figures.get(measure, {}).get(name)}
        if not found:
            continue
        peers = {name: cell["median"] for name, cell in found.items() if name != SUBJECT}
        best = min(peers, key=peers.get) if peers else None
        # All proxies of a round took turns, so noise falls out of each round's ratio.
        ratio = statistics.median([ours / theirs for ours, theirs in zip(
            found[SUBJECT]["rounds"], found[best]["rounds"])]) if best and SUBJECT in found else None
        result[measure] = {"title": title, "unit": unit, "target": target, "proxies": found, "best_peer": best,
                           "ratio": ratio, "met": _verdict(ratio, target)}
    pairs = {name: rounds for name in order if (rounds := figures.get("revocations", {}).get(name))}
    if pairs:
        cells = {}
        for name, rounds in pairs.items():
            empty, loaded = (_summary([pair[side] for pair in rounds]) for side in (0, 1))
            cells[name] = {"empty": empty, "loaded": loaded,
                           "ratio": _summary([pair[1] / pair[0] for pair in rounds])}
        ratio = cells[SUBJECT]["ratio"]["median"] if SUBJECT in cells else None
        result["revocations"] = {"title": "handshake with revocations", "unit": "µs CPU",
                                 "target": REVOCATIONS_TARGET, "proxies": cells, "ratio": ratio,
                                 "met": _verdict(ratio, REVOCATIONS_TARGET)}
    return result


def _figure(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _cell(summary):
    text = _figure(summary["median"])
    return f"{text} ±{summary['spread'] * 100:.0f}%" if len(summary["rounds"]) > 1 else text


def _row(cells):
    return "| " + " | ".join(cells) + " |"


def _closing(ratio, target, met):
    return [f"{ratio:.3f}" if ratio is not None else "–", f"≤ {target:.2f}",
            {True: "met", False: "missed", None: "–"}[met]]


def markdown(result, order, entries):
    """The table for a terminal or the README."""
    title = {"nginx": "nginx", "haproxy": "HAProxy", "envoy": "Envoy", SUBJECT: "Portcullis"}
    names = [name for name in order if any(name in row["proxies"] for row in result.values())]
    lines = [_row(["per", "unit", *(title[name] for name in names), "ratio to the best", "target", ""]),
             _row(["---", "---", *("---:" for _ in names), "---:", "---:", "---"])]
    for measure, row in result.items():
        if measure == "revocations":
            continue
        cells = [_cell(row["proxies"][name]) if name in row["proxies"] else "–" for name in names]
        lines.append(_row([row["title"], row["unit"], *cells, *_closing(row["ratio"], row["target"], row["met"])]))
    if "revocations" in result:
        row = result["revocations"]
        for side, what in (("empty", "empty list"), ("loaded", f"{entries:,} revoked")):
            cells = [_cell(row["proxies"][name][side]) if name in row["proxies"] else "–" for name in names]
            lines.append(_row([f"handshake, {what}", row["unit"], *cells, "–", "–", "–"]))
        cells = [f"× {_cell(row['proxies'][name]['ratio'])}" if name in row["proxies"] else "–" for name in names]
        lines.append(_row(["… the second ÷ the first", "ratio", *cells,
                           *_closing(row["ratio"], row["target"], row["met"])]))
    return "\n".join(lines)
