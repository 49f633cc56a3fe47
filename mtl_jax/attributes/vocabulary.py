"""Names shared by several data sets and configs: landmarks, genders and races."""

LANDMARKS = (
    *(f"{side}_brow_{part}" for side in ("left", "right") for part in ("left", "center", "right")),
    *(f"{side}_eye_{part}" for side in ("left", "right") for part in ("left", "center", "right")),
    "left_ear",
    "nose_left",
    "nose_center",
    "nose_right",
    "right_ear",
    "mouth_left",
    "mouth_center",
    "mouth_right",
    "chin",
)


LANDMARK_FLIP = (
    *(
        (f"left_{part}_{a}", f"right_{part}_{b}")
        for part in ("brow", "eye")
        for a, b in (("left", "right"), ("center", "center"), ("right", "left"))
    ),
    ("left_ear", "right_ear"),
    ("nose_left", "nose_right"),
    ("mouth_left", "mouth_right"),
)

GENDERS = ("male", "female")
RACES = ("White", "Black", "Asian", "Indian", "Others")
