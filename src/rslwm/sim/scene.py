"""The tabletop as MJCF, drawn from primitives: a WidowX-like arm, a table, objects, a zone, a plate and a drawer.

Axes of the base frame: x away from the robot, y to its left, z up; metres, with the table's surface at z = 0.
Objects exist once a colour, so that a colour is an identity; those that a task doesn't use are hidden and float.
"""

from __future__ import annotations

import numpy as np

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.07, 0.08),
    "green": (0.06, 0.60, 0.20),
    "blue": (0.07, 0.24, 0.86),
    "yellow": (1.00, 0.80, 0.04),
    "purple": (0.52, 0.13, 0.70),
    "orange": (1.00, 0.42, 0.02),
}
TABLE_RGB = (0.85, 0.78, 0.68)
SHAPES = ("box", "cylinder")
CAMERAS = ("front", "side", "wrist")

TRANSLATION_BOUND, ROTATION_BOUND = 0.03, 0.25  # of one action, in metres and radians

HALF = 0.025  # half the width and height of an object
ZONE_HALF = 0.045
PLATE_RADIUS, PLATE_HEIGHT = 0.052, 0.008
CABINET_HALF = (0.050, 0.052, 0.032)
HANDLE_OFFSET, HANDLE_HEIGHT = 0.024, 0.034  # of its middle: before the cabinet's front, and above the table
DRAWER_TRAVEL = 0.10
FINGER_TRAVEL = 0.038  # slide of each finger from closed to open; the gap between the fingers is twice that

JOINTS = tuple(f"joint{j}" for j in range(6))
HOME = np.array([0.0, -0.40, 0.55, 0.0, 1.42, 0.0])  # joint angles where inverse kinematics starts
PARKED = (-2.0, 0.0, 0.5)


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{v:g}" for v in values)


_MATERIALS = f"""
<texture name="sky" type="skybox" builtin="gradient" rgb1="0.47 0.55 0.64" rgb2="0.20 0.25 0.31" width="32"
 height="192"/>
<material name="table" rgba="{_numbers((*TABLE_RGB, 1))}" specular="0.1" shininess="0.2"/>
<material name="object" specular="0.35" shininess="0.4"/>
<material name="shell" rgba="0.16 0.17 0.20 1" specular="0.5" shininess="0.6"/>
<material name="joint" rgba="0.44 0.47 0.52 1" specular="0.4" shininess="0.5"/>
<material name="finger" rgba="0.09 0.10 0.12 1" specular="0.3" shininess="0.4"/>
<material name="cabinet" rgba="0.33 0.41 0.47 1" specular="0.2" shininess="0.3"/>
<material name="drawer" rgba="0.96 0.96 0.94 1" specular="0.2" shininess="0.3"/>
"""


_ARM = """
<body name="base" gravcomp="1">
 <geom class="link" type="box" size="0.06 0.05 0.03" pos="-0.02 0 0.03"/>
 <body pos="0 0 0.072" gravcomp="1">
  <joint name="joint0" axis="0 0 1" range="-3.1 3.1" armature="0.05"/>
  <geom class="link" type="cylinder" size="0.045 0.02" material="joint"/>
  <body pos="0 0 0.03865" gravcomp="1">
   <joint name="joint1" axis="0 1 0" range="-1.88 1.98" armature="0.05"/>
   <geom class="servo" size="0.032 0.036"/>
   <geom class="link" type="capsule" size="0.024" fromto="0 0 0.02 0 0 0.25"/>
   <geom class="link" type="capsule" size="0.022" fromto="0 0 0.25 0.04975 0 0.25"/>
   <body pos="0.04975 0 0.25" gravcomp="1">
    <joint name="joint2" axis="0 1 0" range="-2.14 1.60" armature="0.05"/>
    <geom class="servo" size="0.028 0.034"/>
    <geom class="link" type="capsule" size="0.021" fromto="0.02 0 0 0.175 0 0"/>
    <body pos="0.175 0 0" gravcomp="1">
     <joint name="joint3" axis="1 0 0" range="-3.1 3.1" armature="0.02"/>
     <geom class="link" type="capsule" size="0.019" fromto="0 0 0 0.07 0 0" material="joint"/>
     <body pos="0.075 0 0" gravcomp="1">
      <joint name="joint4" axis="0 1 0" range="-1.74 2.14" armature="0.02"/>
      <geom class="servo" size="0.022 0.026"/>
      <geom class="link" type="capsule" size="0.017" fromto="0 0 0 0.06 0 0"/>
      <body name="hand" pos="0.065 0 0" gravcomp="1">
       <joint name="joint5" axis="1 0 0" range="-3.1 3.1" armature="0.02"/>
       <geom class="link" type="box" size="0.020 0.026 0.018" pos="0.012 0 0" material="joint"/>
       <geom name="palm" type="box" size="0.008 0.054 0.014" pos="0.036 0 0" density="800" material="shell"/>
       <site name="gripper" pos="0.105 0 0" rgba="0 0 0 0"/>
       <camera name="wrist" pos="-0.035 0 0.085" xyaxes="0 -1 0 0.42 0 0.91" fovy="62"/>
       <body name="left_finger" gravcomp="1">
        <joint class="finger" name="left_finger" axis="0 1 0"/>
        <geom class="finger" name="left_finger" pos="0.080 0.006 0"/>
       </body>
       <body name="right_finger" gravcomp="1">
        <joint class="finger" name="right_finger" axis="0 -1 0"/>
        <geom class="finger" name="right_finger" pos="0.080 -0.006 0"/>
       </body></body></body></body></body></body></body></body>"""
"""Six joints with the WidowX 250's proportions. Motors hold it against gravity, as a position-controlled arm does. Only
the hand collides: the links stay clear of the table. Its x points where the fingers do; actions move the site."""


def _geom(kind: str, size: tuple[float, ...], pos: tuple[float, ...] = (0, 0, 0), /, **attributes: str) -> str:
    rest = " ".join(f'{name}="{value}"' for name, value in attributes.items())
    return f'<geom type="{kind}" size="{_numbers(size)}" pos="{_numbers(pos)}" {rest}/>'


def _object(colour: str) -> str:
    """One body with a geom of every shape, of which the simulator shows and lets collide at most one."""
    look = {"rgba": _numbers((*COLOURS[colour], 1)), "class": "object"}
    box = _geom("box", (HALF, HALF, HALF), name=f"{colour}_box", mass="0.06", **look)
    cylinder = _geom("cylinder", (HALF, HALF), name=f"{colour}_cylinder", mass="0", **look)
    free = f'<freejoint name="{colour}"/>'
    return f'<body name="{colour}" pos="{_numbers(PARKED)}" gravcomp="1">{free}{box}{cylinder}</body>'


def _furniture() -> str:
    """Zone, plate and drawer: mocap bodies, so that their places are part of the physics state."""
    ghost = {"contype": "0", "conaffinity": "0"}
    zone = _geom("box", (ZONE_HALF, ZONE_HALF, 0.0006), (0, 0, 0.0007), name="zone", rgba="1 1 1 1", **ghost)
    plate = _geom("cylinder", (PLATE_RADIUS, PLATE_HEIGHT / 2), (0, 0, PLATE_HEIGHT / 2), rgba="0.97 0.97 0.98 1")
    well = _geom("cylinder", (0.036, 0.0006), (0, 0, PLATE_HEIGHT), rgba="0.70 0.78 0.88 1", **ghost)
    parked = _numbers(PARKED)
    return f"""
<body name="zone" mocap="true" pos="{parked}">{zone}</body>
<body name="plate" mocap="true" pos="{parked}">{plate}{well}</body>
<body name="cabinet" mocap="true" pos="{parked}">{_cabinet()}{_drawer()}</body>"""


def _cabinet() -> str:
    """Top, two sides and back."""
    (x, y, z), wall = CABINET_HALF, 0.004
    top = ((x, y, wall), (0, 0, 2 * z - wall))
    sides = [((x, wall, z), (0, side * (y - wall), z)) for side in (1, -1)]
    back = ((wall, y, z), (wall - x, 0, z))
    return "".join(_geom("box", *box, material="cabinet") for box in (top, *sides, back))


def _drawer() -> str:
    """A tray that slides along x, with an upright handle that the fingers close around."""
    x, y, z = (half - margin for half, margin in zip(CABINET_HALF, (0.004, 0.010, 0.006), strict=True))
    wall, outside = 0.003, CABINET_HALF[0]
    bottom = ((x, y, wall), (0, 0, 0.006))
    sides = [((x, wall, z - 0.008), (0, side * (y - wall), z - 0.005)) for side in (1, -1)]
    back = ((wall, y, z - 0.012), (wall - x, 0, z - 0.009))
    front = ((0.005, y + 0.008, z), (outside + 0.001, 0, z + 0.003))
    tray = "".join(_geom("box", *box, material="drawer") for box in (bottom, *sides, back, front))
    grip = {"friction": "1.5 0.05 0.01", "condim": "4", "rgba": "0.10 0.11 0.13 1"}
    handle = _geom("box", (0.018, 0.008, 0.022), (outside + HANDLE_OFFSET, 0, HANDLE_HEIGHT), name="handle", **grip)
    return f"""
<body name="drawer"><joint name="drawer" type="slide" axis="1 0 0" range="0 {DRAWER_TRAVEL}" damping="4"
 frictionloss="0.6" armature="0.1"/>{tray}{handle}</body>"""


def _actuators() -> str:
    gains = ((300, 30, 40), (500, 40, 60), (300, 30, 40), (100, 8, 15), (100, 8, 15), (60, 4, 10))
    return "".join(
        f'<position name="{joint}" joint="{joint}" kp="{kp}" kv="{kv}" forcerange="-{force} {force}"/>'
        for joint, (kp, kv, force) in zip(JOINTS, gains, strict=True)
    )


def _look_at(eye: tuple[float, float, float], target: tuple[float, float, float]) -> str:
    """Camera attributes; MuJoCo cameras look along their negative z axis with y up in the image."""
    back = np.subtract(eye, target)
    right = np.cross((0.0, 0.0, 1.0), back)
    up = np.cross(back, right)
    return f'pos="{_numbers(eye)}" xyaxes="{_numbers(tuple(right))} {_numbers(tuple(up))}"'


_DEFAULTS = """<default>
<default class="link"><geom contype="0" conaffinity="0" material="shell" density="800"/>
<default class="servo"><geom type="cylinder" euler="1.5708 0 0" material="joint"/></default></default>
<default class="finger"><joint type="slide" range="0 0.04" armature="0.05" damping="5"/>
<geom type="box" size="0.035 0.006 0.010" density="500" material="finger" condim="4" friction="1.5 0.05 0.01"/>
</default>
<default class="object"><geom material="object" condim="4" friction="0.9 0.02 0.002" group="4"/></default>
</default>"""


def arm_xml() -> str:
    """The arm alone, for kinematics."""
    return f"""<mujoco model="widowx-arm"><compiler angle="radian" autolimits="true"/>
<asset>{_MATERIALS}</asset>{_DEFAULTS}<worldbody>{_ARM}</worldbody></mujoco>"""


def tabletop_xml(buffer_size: int, shadows: bool) -> str:
    """The whole scene. ``buffer_size``: side of the offscreen buffer in pixels."""
    return f"""<mujoco model="tabletop"><compiler angle="radian" autolimits="true"/>
<option timestep="0.004" integrator="implicitfast" cone="elliptic" impratio="10" noslip_iterations="2"/>
<statistic extent="1" center="0.25 0 0.1"/>
<visual><quality shadowsize="{512 if shadows else 0}" offsamples="0"/>
<map znear="0.02" zfar="8" shadowclip="0.5"/>
<headlight ambient="0.38 0.38 0.38" diffuse="0.22 0.22 0.22" specular="0 0 0"/>
<global offwidth="{buffer_size}" offheight="{buffer_size}"/></visual>
<asset>{_MATERIALS}</asset>{_DEFAULTS}
<worldbody><light name="lamp" pos="0.7 -0.4 1.2" dir="-0.55 0.30 -1" directional="true" diffuse="0.55 0.55 0.55"
 specular="0.3 0.3 0.3" castshadow="{"true" if shadows else "false"}"/>
<camera name="front" {_look_at((1.44, 0.0, 0.93), (0.285, 0.0, 0.125))} fovy="14.5"/>
<camera name="side" {_look_at((0.55, -0.80, 0.50), (0.21, 0.0, 0.12))} fovy="27"/>
<geom name="floor" type="plane" size="6 6 0.1" pos="0 0 -0.6" rgba="0.40 0.45 0.50 1" contype="0" conaffinity="0"/>
{_geom("box", (0.42, 0.55, 0.025), (0.22, 0, -0.025), name="table", material="table", friction="1 0.02 0.002")}
{_ARM}{_furniture()}{"".join(map(_object, COLOURS))}</worldbody>
<contact><exclude body1="cabinet" body2="drawer"/></contact>
<equality><joint joint1="left_finger" joint2="right_finger" polycoef="0 1 0 0 0"/></equality>
<actuator>{_actuators()}<position name="gripper" joint="left_finger" kp="400" kv="20" forcerange="-20 20"
 ctrlrange="0 0.04"/></actuator></mujoco>"""
