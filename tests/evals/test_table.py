from mtl_jax.evals.table import format_table, without_boxes

METRICS = {
    "box/AP": 0.51234,
    "box/AP50": 0.75,
    "mask/AP": 0.4,
    "mask/AP50": 0.7,
    **{f"{kind}/AP/class number {k}": k / 100 for kind in ("box", "mask") for k in range(30)},
    "age/mae": 5.314,
    "age/std": 4.2,
    "age/instances": 1200.0,
    "age/labelled": 1100.0,
    "age/misses": 12.0,
    "head/yaw/mae": 8.123,
    "head/yaw/std": 7.0,
    "head/pitch/mae": 9.0,
    "head/pitch/std": 6.5,
    "head/roll/mae": 9.0,
    "head/roll/std": 6.5,
    "head/instances": 1200.0,
    "head/labelled": 0.0,
    "head/misses": 0.0,
    "face/nme": 0.0342,
    "face/accuracy": 0.9,
    "face/instances": 1200.0,
    "face/labelled": 3.0,
    "face/misses": 1.0,
    "detections/false_alarms": 31.0,
}


def test_every_number_is_in_the_table_and_no_line_is_too_long():
    for width in (80, 100):
        table = format_table(METRICS, {"age/mae": 20.1}, width)
        assert max(len(line) for line in table.splitlines()) <= width
        words = table.split()
        for word in ("0.512", "0.750", "5.31", "(20.10)", "8.12", "0.034", "1200", "12", "31"):
            assert word in words, word
        assert table.count("class number") == 30
        assert "0.290" in words


def test_missing_metrics_are_shown_as_a_dash():
    table = format_table({"box/AP": 0.5, "mask/AP75": 0.25})
    box, mask = table.splitlines()[1:]
    assert box.split() == ["box", "0.500", "-"]
    assert mask.split() == ["mask", "-", "0.250"]
    assert format_table({}) == ""


def test_columns_are_aligned():
    lines = format_table(METRICS).splitlines()
    (head,) = [line for line in lines if "misses" in line]
    (row,) = [line for line in lines if line.startswith("age ")]
    for name, number in (("instances", "1200"), ("labelled", "1100"), ("misses", "12")):
        assert head.index(name) + len(name) == row.rindex(number) + len(number)


def test_metrics_of_detection_are_left_out_for_models_of_whole_images():
    metrics = {"box/AP": 1.0, "val/box/AP": 1.0, "detections/false_alarms": 0.0, "age/mae": 5.0}
    assert without_boxes(metrics) == {"age/mae": 5.0}


def test_images_without_objects_have_no_ap():
    lines = format_table({"detections/false_alarms": 31.0}).splitlines()
    assert lines[0].startswith("AP: n/a")
    assert lines[-1].split()[-1] == "31"
