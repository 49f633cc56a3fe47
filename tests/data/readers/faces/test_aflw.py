"""AFLW's database in its published layout, the signs of its angles, and broken databases."""

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from annotated import HEIGHT, WIDTH, check_lines, faults, labels_of, open_format, write_picture
from faces import AT, DECLARED, HIDDEN, LABELS, SKIP
from mistakes import refused

from mtl_jax.attributes.vocabulary import LANDMARKS
from mtl_jax.data.synthetic.surfaces import rotation

# The tables of the database of 2012-11-28, which spells "widht".
TABLES = {
    "Databases": "db_id, path, description",
    "Faces": "face_id INTEGER PRIMARY KEY, file_id, db_id",
    "FaceImages": "image_id INTEGER PRIMARY KEY, db_id, file_id, filepath, bw, widht, height",
    "FaceRect": "face_id, x, y, w, h, annot_type_id",
    "FaceEllipse": "face_id, x, y, ra, rb, theta, annot_type_id, upsidedown",
    "FaceMetaData": "face_id, sex, occluded, glasses, bw, annot_type_id",
    "FacePose": "face_id, roll, pitch, yaw, annot_type_id",
    "FeatureCoords": "face_id, feature_id, x, y, annot_type_id",
    "FeatureCoordTypes": "feature_id INTEGER PRIMARY KEY, descr, code, x, y, z",
}
# vocabulary.LANDMARKS, and one more point.
TYPES = [
    "LeftBrowLeftCorner",
    "LeftBrowCenter",
    "LeftBrowRightCorner",
    "RightBrowLeftCorner",
    "RightBrowCenter",
    "RightBrowRightCorner",
    "LeftEyeLeftCorner",
    "LeftEyeCenter",
    "LeftEyeRightCorner",
    "RightEyeLeftCorner",
    "RightEyeCenter",
    "RightEyeRightCorner",
    "LeftEar",
    "NoseLeft",
    "NoseCenter",
    "NoseRight",
    "RightEar",
    "MouthLeftCorner",
    "MouthCenter",
    "MouthRightCorner",
    "ChinCenter",
    "LeftTemple",
]


def write(folder: Path, faces, without: str = "") -> Path:
    """Write a database of faces, dicts of picture, rect, pose (roll, pitch, yaw in radians), sex
    and points, without the table `without`.
    """
    path = folder / "data/aflw.sqlite"
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as db:
        for table, columns in TABLES.items():
            if table != without:
                db.execute(f"CREATE TABLE {table} ({columns})")
        if without:
            return path

        def insert(table, *values):
            db.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(values))})", values)

        for number, name in enumerate(TYPES, 1):
            insert("FeatureCoordTypes", number, name, name[:4], 0, 0, 0)
        seen = set()
        for number, face in enumerate(faces, 39341):
            file_id = f"image{face['picture'][-9:]}"
            if file_id not in seen:
                seen.add(file_id)
                write_picture(folder / "data/flickr" / face["picture"])
                insert("FaceImages", None, "aflw", file_id, face["picture"], 0, WIDTH, HEIGHT)
            insert("Faces", number, file_id, "aflw")
            if "rect" in face:
                insert("FaceRect", number, *face["rect"], 1)
            insert("FaceEllipse", number, 0, 0, 0, 0, 0, 1, 0)
            if "pose" in face:
                insert("FacePose", number, *face["pose"], 1)
            if "sex" in face:
                insert("FaceMetaData", number, face["sex"], 0, 0, 0, 1)
            for name, (x, y) in face.get("points", {}).items():
                insert("FeatureCoords", number, TYPES.index(name) + 1, x, y, 0)
        db.commit()
    return path


FACE = dict(picture="0/image00002.jpg", rect=(10, 20, 40, 40), pose=(0.1, 0.2, 0.3), sex="f")
POINTS = {name: (20.0 + i, 30.0) for i, name in enumerate(TYPES) if name != "LeftEar"}


def test_the_faces_of_an_image_are_one_record(tmp_path):
    other = dict(picture="0/image00002.jpg", rect=(60, -5, 45, 50), sex="m")
    write(tmp_path, [{**FACE, "points": POINTS}, other, {**FACE, "picture": "2/image00009.jpg"}])
    source = open_format("aflw", tmp_path, LABELS)
    assert len(source) == 2
    record = source[0]
    assert (record.file_name, record.exhaustive) == ("0/image00002.jpg", True)
    first, second = record.instances
    assert first.box == (10, 20, 50, 60)
    assert second.box == (60, 0, 100, 45)
    labels = labels_of(first, DECLARED)
    assert (labels["gender"], labels_of(second, DECLARED)) == ("female", {"gender": "male"})
    points = labels["face"]
    assert points[AT["left_ear"]] == HIDDEN
    for name in LANDMARKS:
        if name != "left_ear":
            assert points[AT[name]] == [20 + AT[name], 30, 2]


@pytest.mark.parametrize("angle", ["yaw", "pitch", "roll"])
def test_angles_are_converted(tmp_path, angle):
    """Compute AFLW's angles of a rotation as its `splitRotationMatrixToRollPitchYaw` does. AFLW's
    axes point towards the camera, to the image's left, and down.
    """
    expected = {"yaw": 0.0, "pitch": 0.0, "roll": 0.0, angle: 25.0}
    axes = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    turn = axes @ rotation(**expected) @ axes.T
    pitch, roll = np.arcsin(-turn[2, 0]), np.arctan2(turn[2, 1], turn[2, 2])
    pose = (roll, pitch, np.arctan2(turn[1, 0], turn[0, 0]))
    write(tmp_path, [{**FACE, "pose": tuple(float(value) for value in pose)}])
    (face,) = open_format("aflw", tmp_path, LABELS)[0].instances
    assert labels_of(face, DECLARED)["head"] == pytest.approx(expected, abs=1e-6)


FAULTS = [
    ({"pose": (10.0, -20.0, 30.0)}, ("roll, pitch, yaw", "(10, -20, 30)")),
    ({"points": {"ChinCenter": (900.0, 3.0)}}, ("(900, 3)", WIDTH, HEIGHT)),
    ({"rect": (200, 20, 40, 40)}, ("(200, 20, 240, 60)", WIDTH, HEIGHT)),
    ({"rect": (None, 20, 40, 40)}, ("FaceRect",)),
    ({"sex": "x"}, ("sex", "x", "m", "f")),
]


@pytest.mark.parametrize(("changed", "named"), FAULTS)
def test_a_wrong_face_is_one_line(tmp_path, changed, named):
    path = write(tmp_path, [FACE, {**FACE, **changed}])
    found = faults("aflw", tmp_path, LABELS)
    check_lines(found, path, (39342, "0/image00002.jpg", *named))
    assert len(open_format("aflw", tmp_path, SKIP)[0].instances) == 1


@pytest.mark.parametrize(
    "table", [name for name in TABLES if name not in ("Databases", "FaceEllipse")]
)
def test_a_missing_table_is_named(tmp_path, table):
    path = write(tmp_path, [], without=table)
    with refused(path, table):
        open_format("aflw", tmp_path, LABELS)


def test_a_file_that_is_not_a_database_is_refused(tmp_path):
    path = write(tmp_path, [FACE])
    data = path.read_bytes()
    for broken in (b"not a database" * 100, data[: len(data) // 2], data[:100]):
        path.write_bytes(broken)
        with refused(path):
            open_format("aflw", tmp_path, LABELS)
    path.unlink()
    with refused(tmp_path / "aflw.sqlite", "aflw-db.tar.gz"):
        open_format("aflw", tmp_path, LABELS)
    assert not path.exists()


def test_another_schema_and_a_missing_image_are_one_line(tmp_path):
    path = write(tmp_path, [FACE])
    (tmp_path / "data/flickr/0/image00002.jpg").unlink()
    check_lines(faults("aflw", tmp_path, LABELS), path, (39341, "0/image00002.jpg"))
    with closing(sqlite3.connect(path)) as db:
        db.execute("ALTER TABLE FacePose DROP COLUMN yaw")
    with refused(path, "FacePose.yaw"):
        open_format("aflw", tmp_path, LABELS)
