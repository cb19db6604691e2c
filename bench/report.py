"""From slices to the table and the plot."""

import html

MARKS = {True: "yes", False: "**no**", None: ""}


def rate(values, by):
    return values["frames"] / values[f"{by}_ns"] * 1e9


def best_and_p10(slices, by):
    """The best slice, and the one that a tenth of the slices beat or equal (cost's tenth percentile)."""
    rates = sorted((rate(values, by) for values in slices), reverse=True)
    return rates[0], rates[max(0, round(len(rates) * 0.1) - 0)] if len(rates) > 1 else rates[0]


def judge(row, slices):
    """What a row came to."""
    by = row["by"]
    parties = {label: best_and_p10(values, by) for label, values in slices.items()}
    (base, base_p10), *others = parties.values()
    worst = min(others, key=lambda other: other[0] / base) if others else None
    ratio = worst[0] / base if worst else None
    more_ns = 1e9 / worst[0] - 1e9 / base if worst else None
    last = list(slices.values())[-1]
    # Best of the slices here too: the least time, the greatest fairness.
    shown = {key: pick(key)(values[key] for values in last if key in values) for key in row.get("show", [])}
    met = [ratio >= row["bound"]] if "bound" in row else []
    met += [more_ns <= row["more_ns"]] if "more_ns" in row else []
    met += [shown[key] >= least for key, least in row.get("at_least", {}).items()]
    met += [shown[key] <= most for key, most in row.get("at_most", {}).items()]
    return {
        "name": row["name"], "by": by, "row": row, "parties": parties, "ratio": ratio, "more_ns": more_ns,
        "ratio_p10": worst[1] / base_p10 if worst else None, "shown": shown, "met": all(met) if met else None,
    }


def pick(key):
    return max if key in ("fairness", "most_polls", "most_mpps", "mb_per_s", "lines_per_s") else min


def bound(result):
    row = result["row"]
    parts = [f">= {row['bound']:.2f}"] if "bound" in row else []
    parts += [f"<= {row['more_ns']} ns more"] if "more_ns" in row else []
    parts += [f"{key} >= {least}" for key, least in row.get("at_least", {}).items()]
    parts += [f"{key} <= {most}" for key, most in row.get("at_most", {}).items()]
    return ", ".join(parts)


def number(value):
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def shown(result):
    values = [f"{key} {number(value)}" for key, value in result["shown"].items()]
    return ", ".join(values + result["row"].get("notes", []))


def rates(result):
    each = [f"{label} {number(best / 1e6)} ({1e9 / best:.1f} ns)" for label, (best, _) in result["parties"].items()]
    return "; ".join(each)


def outcome(result):
    if result["ratio"] is None:
        return ""
    return f"{result['ratio']:.2f} (p10 {result['ratio_p10']:.2f}), {result['more_ns']:+.1f} ns"


def line(result):
    mark = {True: "met", False: "NOT MET", None: "-"}[result["met"]]
    return f"{mark:8} {result['name']}: {outcome(result)} | {rates(result)} | {shown(result)}"


def write(out, facts, results):
    table = ["# Runs of the comparison", "", *(f"- {key}: {value}" for key, value in facts.items()), "",
             "Rates are millions of frames a second of CPU time of the measured lcore (by \"cpu\") or by the clock (\"wall\"), best",
             "slice of each party; the ratio is best to best, p10 the same of the slices at the tenth percentile of cost. How to",
             "read it: bench/README.md. Every slice: raw.csv.", "",
             "| row | by | Mpps (ns a frame) | ratio | asked | met | more |", "|---|---|---|---|---|---|---|"]
    for result in results:
        cells = [result["name"], result["by"], rates(result), outcome(result), bound(result), MARKS[result["met"]],
                 shown(result)]
        table.append("| " + " | ".join(cells) + " |")
    (out / "table.md").write_text("\n".join(table) + "\n", encoding="utf-8")
    (out / "plot.svg").write_text(plot([result for result in results if result["ratio"] is not None]), encoding="utf-8")


def plot(results):
    """A bar a row: the ratio, with a mark where it is to be."""
    left, width, step, top = 560, 420, 26, 50
    most = max([1.0, *(result["ratio"] for result in results)])
    height = top + step * len(results) + 20
    at = lambda ratio: left + ratio / most * width
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 80}" height="{height}" '
             'font-family="sans-serif" font-size="12">', '<rect width="100%" height="100%" fill="white"/>',
             f'<text x="{left}" y="20" font-size="14">frames per second, ours to the other\'s (line: asked for)</text>']
    for tenth in range(0, int(most * 10) + 1, 2):
        x = at(tenth / 10)
        parts.append(f'<line x1="{x:.1f}" y1="{top - 10}" x2="{x:.1f}" y2="{height - 15}" stroke="#ddd"/>'
                     f'<text x="{x:.1f}" y="{top - 14}" text-anchor="middle" fill="#666">{tenth / 10:.1f}</text>')
    for place, result in enumerate(results):
        y = top + place * step
        colour = {True: "#2a7", False: "#c43", None: "#58b"}[result["met"]]
        parts.append(f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{html.escape(result["name"])}</text>'
                     f'<rect x="{left}" y="{y}" width="{result["ratio"] / most * width:.1f}" height="17" fill="{colour}"/>'
                     f'<text x="{at(result["ratio"]) + 5:.1f}" y="{y + 13}">{result["ratio"]:.2f}</text>')
        if "bound" in result["row"]:
            x = at(result["row"]["bound"])
            parts.append(f'<line x1="{x:.1f}" y1="{y - 2}" x2="{x:.1f}" y2="{y + 19}" stroke="black" stroke-width="2"/>')
    return "\n".join([*parts, "</svg>"]) + "\n"
