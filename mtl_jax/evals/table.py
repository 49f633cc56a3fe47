"""Metrics as a table for the terminal."""

from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")
PRECISIONS = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
COUNTS = ("instances", "labelled", "misses")
FRACTIONS = ("accuracy", "macro_f1", "nme", "coverage")


def format_table(
    metrics: Mapping[str, float], trivial: Mapping[str, float] | None = None, width: int = 100
) -> str:
    """Format `metrics` (names as in metrics.json) in lines of at most `width` characters.

    `trivial` are metrics of the best constant predictor by the same names, shown in brackets.
    """
    blocks = [
        _precision_rows(metrics),
        _class_rows(metrics, width),
        _attribute_rows(metrics, trivial or {}, width),
        _rest(metrics),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def without_boxes(metrics: Mapping[str, T]) -> dict[str, T]:
    """Return the metrics without those of detection, for a model of whole images."""
    return {k: v for k, v in metrics.items() if not {"box", "detections"} & set(k.split("/"))}


def _precision_rows(metrics: Mapping[str, float]) -> list[str]:
    kinds = [kind for kind in ("box", "mask") if any(f"{kind}/{p}" in metrics for p in PRECISIONS)]
    columns = [p for p in PRECISIONS if any(f"{kind}/{p}" in metrics for kind in kinds)]
    if not kinds:
        is_detector = any(name.startswith("detections/") for name in metrics)
        return ["AP: n/a (the images have no annotated objects)"] if is_detector else []
    lines = [" " * 6 + "".join(f"{p:>11}" for p in columns)]
    for kind in kinds:
        cells = "".join(f"{_number(f'{kind}/{p}', metrics):>11}" for p in columns)
        lines.append(f"{kind:<6}{cells}")
    return lines


def _class_rows(metrics: Mapping[str, float], width: int) -> list[str]:
    """Format the AP of each class, several classes per line."""
    names = dict.fromkeys(
        key.removeprefix(f"{kind}/AP/")
        for kind in ("box", "mask")
        for key in metrics
        if key.startswith(f"{kind}/AP/")
    )
    if len(names) < 2:
        return []
    kinds = [k for k in ("box", "mask") if any(key.startswith(f"{k}/AP/") for key in metrics)]
    numbers = 8 * len(kinds)
    longest = min(max(len(name) for name in names), width - numbers)
    many = max((width + 3) // (longest + numbers + 3), 1)
    cells = [
        f"{name[:longest]:<{longest}}"
        + "".join(f"{_number(f'{kind}/AP/{name}', metrics):>8}" for kind in kinds)
        for name in names
    ]
    head = f"{'AP'[:longest]:<{longest}}" + "".join(f"{kind:>8}" for kind in kinds)
    lines = ["   ".join([head] * min(many, len(cells)))]
    deep = -(-len(cells) // many)  # number of rows; classes are listed by column
    return lines + ["   ".join(cells[i::deep]) for i in range(deep)]


def _attribute_rows(
    metrics: Mapping[str, float], trivial: Mapping[str, float], width: int
) -> list[str]:
    names = [key.removesuffix("/labelled") for key in metrics if key.endswith("/labelled")]
    if not names:
        return []
    longest = min(max(len("attribute"), *(len(name) for name in names)), width // 3)
    head = f"{'attribute':<{longest}}" + "".join(f"{count:>11}" for count in COUNTS) + "   "
    lines = [head.rstrip()]
    for name in names:
        counts = "".join(f"{metrics.get(f'{name}/{count}', 0):>11.0f}" for count in COUNTS)
        parts = _parts(name, metrics, trivial) or ["-"]
        line = f"{name[:longest]:<{longest}}{counts}   {parts[0]}"
        for part in parts[1:]:
            if len(line) + 3 + len(part) > width:
                lines.append(line)
                line = " " * len(head) + part
            else:
                line += "   " + part
        lines.append(line)
    return lines


def _parts(name: str, metrics: Mapping[str, float], trivial: Mapping[str, float]) -> list[str]:
    """Format an attribute's metrics as `mae 5.31 (20.10)`."""
    parts = []
    for key in metrics:
        metric = key.removeprefix(f"{name}/")
        if metric != key and metric not in COUNTS:
            beside = f" ({_number(key, trivial)})" if key in trivial else ""
            parts.append(f"{metric.replace('/', ' ')} {_number(key, metrics)}{beside}")
    return parts


def _rest(metrics: Mapping[str, float]) -> list[str]:
    return [
        f"{key.removeprefix('detections/').replace('_', ' ')}: {value:.0f}"
        for key, value in metrics.items()
        if key.startswith("detections/")
    ]


def _number(key: str, metrics: Mapping[str, float]) -> str:
    if key not in metrics:
        return "-"
    name = key.rsplit("/", 1)[-1]
    fraction = key.startswith(("box/", "mask/")) or name in FRACTIONS or name.startswith("cs")
    return f"{metrics[key]:.3f}" if fraction else f"{metrics[key]:.2f}"
