"""Tests of command lines: values get the fields' types, mistakes are one line and exit code 2."""

import errno
import subprocess
import sys

import cv2
import pytest
import scripts
from inference.fake_run import FakeRun, picture
from mistakes import check_names, refused

from mtl_jax.commandline import Parser, find_run, run
from mtl_jax.config.blocks import blocks_of
from mtl_jax.config.overrides import load_config_file, override

FILE = str(scripts.ROOT / "configs/mtl_synthetic.py")
TINY = f"{FILE}:tiny"


@pytest.fixture
def never_trains(monkeypatch):
    from mtl_jax import experiment

    def train(config, workdir, hosts=False):
        raise AssertionError("training began")

    monkeypatch.setattr(experiment, "train", train)


@pytest.mark.usefixtures("never_trains")
@pytest.mark.parametrize(
    ("argument", "parts"),
    [
        ("--config.trian.seed=1", ("config.trian.seed", "config.train.seed")),
        ("--config.mask_size=1", ("config.mask_size", "config.data.mask_size")),
        (
            "--config.train.batch_sise=1",
            ("config.train.batch_sise", "config.train.batch_size"),
        ),
        ("--config.stages[0].stepz=3", ("--config.stages[0].stepz", "config.stages.stage1.steps")),
        ("--config.stages[7].steps=3", ("config.stages[7].steps", "config.stages.stage2")),
        (
            "--config.attributes.agee.weight=3",
            ("config.attributes.agee.weight", "config.attributes.age.weight"),
        ),
        ("--config.xyzzy=3", ("config.xyzzy",)),
        ("--config.train.batch_size=two", ("--config.train.batch_size=two", 2)),
        ("--config.train.batch_size=1.5", ("--config.train.batch_size=1.5", 2)),
        ("--config.stages[0].steps=abc", ("--config.stages[0].steps=abc", 2)),
        (
            "--config.model.mask_head.enabled=maybe",
            ("--config.model.mask_head.enabled=maybe", True),
        ),
        ("--config.train.seed", ("config.train.seed", 0)),
        ("--config.train=3", ("--config.train=3", "accumulate", "balance")),
        ("--workdri=x", ("--workdri=x", "--workdir")),
        ("--xyzzy", ("--xyzzy",)),
        ("more", ("'more'",)),
    ],
)
def test_a_wrong_argument_is_one_line(argument, parts):
    scripts.mistake(scripts.call("train", "--config", TINY, argument), *parts)


@pytest.mark.usefixtures("never_trains")
@pytest.mark.parametrize(
    ("config", "parts"),
    [
        (FILE.replace("synthetic.py", "syntetic.py"), (FILE,)),
        ("mtl_syntetic", ("mtl_synthetic",)),
        (TINY + "y", (FILE, TINY)),
        (str(scripts.ROOT / "README.md"), ()),
        (str(scripts.ROOT / "configs"), ()),
    ],
)
def test_a_missing_config_is_one_line(config, parts, monkeypatch):
    monkeypatch.chdir(scripts.ROOT)
    line = scripts.mistake(scripts.call("train", "--config", config))
    assert line.startswith(f"{config}: ")
    check_names(line.removeprefix(f"{config}: "), *parts)


HEAD = """
from mtl_jax.config.defaults import get_default
VARIANTS = ("",)
def get_config(variant=""):
    config = get_default()
    {}
    return config
"""


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ("config.trian = 3", ("trian",)),
        ("config.train.update(btch_size=3)", ("btch_size",)),
        ("config.train.batchsize = 3", ("batchsize", "batch_size")),
        ("config.model.bakbone.norm = 'x'", ("bakbone", "backbone")),
        ("config.train.batch_size = 'two'", ("batch_size",)),
        ("config.train.seed = 1 +", ("invalid syntax",)),  # Python's message
    ],
)
def test_a_mistake_in_a_config_file_is_one_line_that_names_its_line(tmp_path, change, parts):
    path = tmp_path / "mine.py"
    path.write_text(HEAD.format(change))
    message = scripts.mistake(scripts.call("train", "--config", path))
    assert message.startswith(str(path))
    check_names(message.removeprefix(str(path)), 6, *parts)


@pytest.mark.parametrize("needed", ["VARIANTS", "get_config"])
def test_an_incomplete_config_file_is_one_line(tmp_path, needed):
    path = tmp_path / "mine.py"
    path.write_text(HEAD.replace(needed, "other"))
    message = scripts.mistake(scripts.call("train", "--config", path))
    assert message.startswith(f"{path}: ")
    assert min("VARIANTS", "get_config", key=message.index) == needed  # the missing name is first


def test_attributes_and_their_keys_are_the_only_fields_that_a_config_may_add(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        HEAD.format(
            "config.attributes.age = dict(kind='continuous', range=(0, 9));"
            "config.data.attribute_keys = {'age': ('Age', 1.0, 0.0)}"
        )
    )
    config = load_config_file(str(path))
    override(config, ["--config.attributes.age.weight=2"])
    options = {"range": (0, 9), "weight": 2.0, "loss": "", "scale": 0.0, "centered": True}
    assert config.attributes.to_dict() == {"age": {"kind": "continuous", **options}}
    assert config.data.attribute_keys.to_dict() == {"age": ("Age", 1.0, 0.0)}


@pytest.mark.parametrize(
    ("argument", "read", "value"),
    [
        ("--config.train.batch_size=5", lambda c: c.train.batch_size, 5),
        ("--config.optimizer.learning_rate=1", lambda c: c.optimizer.learning_rate, 1.0),
        ("--config.optimizer.learning_rate=1e-4", lambda c: c.optimizer.learning_rate, 1e-4),
        ("--config.model.backbone.norm=group", lambda c: c.model.backbone.norm, "group"),
        ("--config.model.mask_head.enabled=False", lambda c: c.model.mask_head.enabled, False),
        ("--config.data.path=/a b=c", lambda c: c.data.path, "/a b=c"),
        ("--config.eval.best_metric=", lambda c: c.eval.best_metric, ""),
        ("--config.init.exclude=('a','b')", lambda c: c.init.exclude, ("a", "b")),
        ("--config.init.exclude=a", lambda c: c.init.exclude, ("a",)),
        (
            "--config.data.resize.canvases=((64,96),)",
            lambda c: c.data.resize.canvases,
            ((64, 96),),
        ),
        ("--config.optimizer.milestones=(0.5,)", lambda c: c.optimizer.milestones, (0.5,)),
        ("--config.stages[1].steps=7", lambda c: c.stages.stage2.steps, 7),
        ("--config.stages[0].layers=4+", lambda c: c.stages.stage1.layers, "4+"),
        ("--config.data.sources[0].length=7", lambda c: c.data.sources.train.length, 7),
        ("--config.attributes.age.range=(0,99)", lambda c: c.attributes.age.range, (0, 99)),
        ("--config.attributes.age.weight=2", lambda c: c.attributes.age.weight, 2.0),
        (
            "--config.attributes.gender.classes=('x','y')",
            lambda c: c.attributes.gender.classes,
            ("x", "y"),
        ),
    ],
)
def test_an_override_sets_one_field_with_its_type(argument, read, value):
    config, before = load_config_file(TINY), load_config_file(TINY)
    override(before, [])
    override(config, [argument])
    assert read(config) == value
    assert type(read(config)) is type(read(before))
    changed = {k for k, v in config.to_dict().items() if v != before.to_dict()[k]}
    assert changed == ({argument.split(".")[1].split("[")[0]} if read(before) != value else set())


def test_each_option_of_a_source_can_be_set():
    config = load_config_file("configs/balloon.py")
    override(config, ["--config.data.sources[0].class_attribute=shape"])
    override(config, ["--config.data.sources[0].weight=2"])
    (name,) = config.data.sources.order
    source = config.data.sources[name]
    assert (source.class_attribute, source.weight) == ("shape", 2.0)
    assert "masks" not in source
    override(config, [f"--config.data.sources.{name}.weight=3"])
    assert config.data.sources[name].weight == 3.0
    override(config, ["--config.data.sources[0].exhaustive=False"])
    assert config.data.sources[name].exhaustive is False
    override(config, ["--config.data.sources[0].rename={'a': 'b'}"])
    assert blocks_of(config.data.sources)[name]["rename"] == {"a": "b"}
    for wrong in ("sources[0].class_atribute", "sources[7].weight"):
        with refused(f"config.data.{wrong}"):
            override(config, [f"--config.data.{wrong}=1"])


def test_an_option_of_a_source_with_a_short_format_can_be_set():
    config = load_config_file("configs/balloon.py")
    override(config, ["--config.data.sources=({'path': 'balloon'},)", "--config.data.format=via"])
    override(config, ["--config.data.sources[0].weight=2"])
    assert blocks_of(config.data.sources) == {"source": {"path": "balloon", "weight": 2.0}}


def test_an_override_without_a_value_does_not_take_the_next_option():
    parser = Parser("")
    parser.add_argument("--workdir")
    given = ["--config.eval.flip", "--workdir", "run", "--config.train.seed"]
    namespace, overrides = parser.parse_with_overrides(given)
    assert namespace.workdir == "run"
    assert overrides == ["--config.eval.flip", "--config.train.seed"]


def test_a_value_can_follow_after_a_space(monkeypatch, tmp_path):
    from mtl_jax import experiment

    seen = []
    monkeypatch.setattr(experiment, "train", lambda config, *rest: seen.append((config, *rest)))
    done = scripts.call(
        "train",
        "--config",
        TINY,
        "--config.init.checkpoint",
        "a b",
        "--workdir",
        tmp_path / "here",
        "--config.train.seed=3",
    )
    assert done == (0, "", "")
    ((config, workdir, hosts),) = seen
    assert (config.init.checkpoint, config.train.seed, hosts) == ("a b", 3, False)
    assert workdir == tmp_path / "here"


def test_values_with_spaces_can_stand_between_lists(monkeypatch, tmp_path):
    seen = {}

    def load(run, step, overrides):
        seen["overrides"] = overrides
        return FakeRun()

    def predict(predictor, inputs, output, options):
        seen["inputs"] = inputs
        return 0

    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr("mtl_jax.runs.loading.load_run", load)
    monkeypatch.setattr("mtl_jax.inference.files.predict_folder", predict)
    scales = "--config.eval.scales=(.8, 1, 1.25)"
    inputs = ("--input", "a.jpg", scales, "--input", "b.jpg", "c.jpg")
    done = scripts.call("predict", "--workdir", tmp_path, *inputs, "--output", tmp_path / "out")
    assert done == (0, f"model: {tmp_path}\n", "")
    assert seen == {"overrides": [scales], "inputs": ["a.jpg", "b.jpg", "c.jpg"]}


def test_the_folder_of_a_run_is_named_after_its_config(monkeypatch):
    from mtl_jax import experiment

    seen = []
    monkeypatch.setattr(experiment, "train", lambda config, workdir, hosts: seen.append(workdir))
    scripts.call("train", "--config", TINY)
    scripts.call("train", "--config", TINY.removesuffix(":tiny"))
    assert [str(workdir) for workdir in seen] == ["runs/mtl_synthetic_tiny", "runs/mtl_synthetic"]


@pytest.mark.parametrize("name", ["train", "evaluate", "predict"])
def test_help_shows_an_example(name):
    done = scripts.call(name, "--help")
    assert done.code == 0
    assert f"    python {name}.py --" in done.out


@pytest.mark.parametrize(
    ("name", "arguments", "parts"),
    [
        ("train", (), ("train.py", "--config")),
        ("predict", ("--output", "x"), ("predict.py", "--input")),
        ("predict", ("--input", "x"), ("predict.py", "--output")),
        ("predict", ("--input", "x", "--output", "y", "--csvv"), ("--csvv", "--csv")),
        ("predict", ("--input", "x", "--output", "y", "--threshold", "b"), ("--threshold", "'b'")),
        ("predict", ("--input", "x", "--output", "y", "--scales", "big"), ("--scales", "'big'")),
        ("predict", ("--input", "x", "--output", "y", "--style", "b"), ("--style", "'b'")),
        ("evaluate", ("--splt", "val"), ("--splt", "--split")),
    ],
)
def test_a_missing_or_unknown_option_is_one_line(name, arguments, parts):
    scripts.mistake(scripts.call(name, *arguments), *parts)


def test_show_without_a_display_is_one_line_before_anything_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("cv2.getBuildInformation", lambda: "  GUI:                NONE\n")
    arguments = ("--input", tmp_path / "absent", "--output", tmp_path / "out", "--show")
    done = scripts.call("predict", "--workdir", tmp_path / "no run", *arguments)
    scripts.mistake(done, "--show", "opencv-contrib-python")


def test_predict_passes_its_options_on(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text("{}")
    cv2.imwrite(str(tmp_path / "a.png"), picture(64, 128, (20, 10, 60, 50)))
    monkeypatch.setattr("mtl_jax.runs.loading.load_run", lambda run, step, overrides: FakeRun())
    common = ("--workdir", tmp_path, "--input", f"{tmp_path}/*.png", "--output", tmp_path / "out")
    scripts.mistake(scripts.call("predict", *common, "--classes", "light", "drak"), "drak", "dark")
    options = ("--classes", "light", "--style", "panels", "--csv", "--crops")
    done = scripts.call("predict", *common, *options)
    assert done.code == 0, done.err
    written = sorted(
        path.relative_to(tmp_path / "out").as_posix() for path in tmp_path.rglob("out/*")
    )
    assert written == ["crops", "overlays", "predictions.csv", "predictions.json"]
    assert cv2.imread(str(tmp_path / "out/overlays/a.png.png")).shape == (64, 3 * 128, 3)
    line = scripts.mistake(scripts.call("predict", *common[:3], f"{tmp_path}/*.jpg", *common[4:]))
    assert line.startswith(f"{tmp_path}/*.jpg: ")


@pytest.mark.parametrize("name", ["evaluate", "predict"])
def test_a_folder_without_a_run_is_one_line(name, tmp_path, monkeypatch):
    more = ("--input", tmp_path, "--output", tmp_path) if name == "predict" else ()
    for folder in (tmp_path, tmp_path / "absent"):
        done = scripts.call(name, "--workdir", folder, *more)
        line = scripts.mistake(done, "config.json", "train.py")
        assert line.startswith(f"{folder}: ")
    monkeypatch.chdir(tmp_path)
    scripts.mistake(scripts.call(name, *more), "runs", "--workdir")
    (tmp_path / "config.json").write_text("{}")
    line = scripts.mistake(scripts.call(name, "--workdir", tmp_path, *more))
    assert line.startswith(f"{tmp_path / 'checkpoints'}: ")


def test_the_newest_run_is_taken(tmp_path, monkeypatch):
    import os

    monkeypatch.chdir(tmp_path)
    for age, name in enumerate("bca"):
        path = tmp_path / "runs" / name / "config.json"
        path.parent.mkdir(parents=True)
        path.write_text("{}")
        os.utime(path, (1e9 - age, 1e9 - age))
    assert find_run(None).name == "b"
    with refused("runs/d"):
        find_run("runs/d")
    (tmp_path / "model.npz").touch()
    assert find_run("model.npz", packed=True).name == "model.npz"
    with refused("model.npz"):
        find_run("model.npz")


def test_a_workdir_that_cannot_be_created_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    for workdir in (tmp_path / "file", tmp_path / "file" / "run"):
        line = scripts.mistake(scripts.call("train", "--config", TINY, "--workdir", workdir))
        assert line.startswith(f"{workdir}: ")


def test_a_file_that_cannot_be_opened_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(lambda argv: len((tmp_path / "gone.txt").read_text()))
    assert capsys.readouterr().err == f"{tmp_path}/gone.txt: No such file or directory\n"


def test_a_full_disk_is_one_line(capsys):
    def fill(argv):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(SystemExit, match="2"):
        run(fill)
    assert capsys.readouterr().err == "No space left on device\n"
    with pytest.raises(OSError, match="another"):  # an error of the program
        run(lambda argv: (_ for _ in ()).throw(OSError("another")))


def test_a_process_ends_with_the_code_and_no_traceback():
    done = scripts.start("train", "--config", TINY, "--config.trian.seed=1")
    scripts.mistake(done, "config.trian.seed", "config.train.seed")
    assert done.out == ""


def test_setting_sources_clears_the_short_fields():
    config = load_config_file(str(scripts.ROOT / "configs/maskmtl_utkface.py"))
    assert config.data.format == "utkface"
    other = "--config.data.sources=({'format': 'fairface'},)"
    override(config, ["--config.data.path=here", other])
    assert blocks_of(config.data.sources) == {"fairface": {"format": "fairface"}}
    assert (config.data.format, config.data.path) == ("", "here")


def test_a_first_source_without_a_format_keeps_the_short_fields():
    config = load_config_file(str(scripts.ROOT / "configs/maskmtl_utkface.py"))
    override(config, ["--config.data.sources=({'masks': 0.5},)"])
    assert blocks_of(config.data.sources) == {"utkface": {"masks": 0.5}}
    assert config.data.format == "utkface"


LARGE = ("jax", "jaxlib", "flax", "optax", "orbax", "tensorflow")
MISTAKES = [
    ("train", ("--config", "configs/utkface_age.py", "--config.train.sed=1")),
    ("train", ("--config", "configs/utkface_agee.py")),
    ("train", ("--config", "configs/utkface_age.py", "--config.train.seed=-1")),
    ("evaluate", ("--workdir", "absent")),
    ("predict", ("--workdir", "absent", "--input", "a.jpg", "--output", "out")),
]


@pytest.mark.parametrize(("script", "arguments"), MISTAKES)
def test_a_mistake_on_the_command_line_is_found_before_large_imports(script, arguments):
    code = f"""
import runpy, sys
sys.argv = [{script + ".py"!r}, *{arguments!r}]
try:
    runpy.run_path({script + ".py"!r}, run_name="__main__")
except SystemExit as end:
    print(end.code, *(name for name in {LARGE!r} if name in sys.modules))
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=scripts.ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["2"], done
    assert len(done.stderr.splitlines()) == 1
