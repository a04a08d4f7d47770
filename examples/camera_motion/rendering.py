"""Renders labeled camera-motion video from photographs.

A camera that only turns and zooms sees a distant scene through a homography, so one photograph is enough to render a
pan, a tilt, a roll or a zoom exactly, and the label is right by construction:

    photo pixel = K_photo · R(yaw, pitch, roll) · K(focal length)⁻¹ · frame pixel

Lengths in the frame are in units of its short side (origin at the center, x right, y down), angles are in radians and
times in seconds. Directions are the camera's: `pan_right` turns the camera right, so the picture content moves left.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

LABELS = (
    "static",
    "pan_left",
    "pan_right",
    "tilt_up",
    "tilt_down",
    "zoom_in",
    "zoom_out",
    "roll_clockwise",
    "roll_counterclockwise",
    "shake",
)
ASPECT_RATIOS = (16 / 9, 4 / 3, 9 / 16, 1.0)
FRAME_RATES = (24, 25, 30, 50)
PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}

PAN_SPEEDS = (0.06, 0.6)  # short sides a second
ZOOM_RATES = (0.06, 0.5)  # natural logarithm of the focal length, a second
ROLL_RATES = (0.07, 0.8)  # radians a second
HAND_JITTER_MAX = 0.005  # root mean square, short sides
SHAKE_JITTER = (0.012, 0.045)
FOREGROUND_AREA_MAX = 0.25
NOISE = np.random.default_rng(0).standard_normal(1 << 20, np.float32)  # drawn once: drawing is slower than rendering


# photographs


def split_photographs(
    folder: str | Path, *, validation: int = 100, test: int = 200, seed: int = 0
) -> dict[str, list[Path]]:
    """Splits the photographs below `folder` by a seeded permutation into "train", "validation" and "test"."""
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in PHOTO_SUFFIXES)
    if len(paths) <= validation + test:
        raise ValueError(f"expected more than {validation + test} photographs below {folder}, found {len(paths)}")
    paths = [paths[i] for i in np.random.default_rng(seed).permutation(len(paths))]
    held_out = validation + test
    return {"train": paths[held_out:], "validation": paths[:validation], "test": paths[validation:held_out]}


def load_photo(path: str | Path) -> np.ndarray:
    """Reads one photograph as RGB uint8 (H, W, 3)."""
    photo = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if photo is None:
        raise ValueError(f"expected a photograph, OpenCV cannot read {path}")
    return cv2.cvtColor(photo, cv2.COLOR_BGR2RGB)


# how the camera moves


@dataclass(frozen=True)
class Jitter:
    """Smooth noise: a sum of sinusoids for each of yaw, pitch and roll.

    `amplitudes` (3, K) are short sides for yaw and pitch and radians for roll; `frequencies` (3, K) are hertz.
    """

    amplitudes: np.ndarray
    frequencies: np.ndarray
    phases: np.ndarray

    def at(self, times: np.ndarray) -> np.ndarray:
        """Yaw, pitch and roll noise (3, N) at `times` (N,)."""
        angles = 2 * np.pi * self.frequencies[..., None] * times + self.phases[..., None]
        return (self.amplitudes[..., None] * np.sin(angles)).sum(1)


@dataclass(frozen=True)
class CameraPath:
    """A camera's movement: `rates` are the peak rates of yaw, pitch (short sides/s), roll (rad/s) and log focal (1/s).

    `profile_seconds` and `profile_progress` sample the integral of the speed profile (0 to 1 times the peak rate).
    """

    focal: float
    rates: np.ndarray
    profile_seconds: np.ndarray
    profile_progress: np.ndarray
    jitter: Jitter

    def progress(self, times: np.ndarray) -> np.ndarray:
        """Seconds of full-speed motion done by each of `times`, zero in the middle of the way."""
        middle = (self.profile_progress[0] + self.profile_progress[-1]) / 2
        return np.interp(times, self.profile_seconds, self.profile_progress) - middle

    def frame_to_photo_rays(self, times: np.ndarray) -> np.ndarray:
        """R(t) · K(t)⁻¹ (N, 3, 3): from homogeneous frame coordinates to the photograph camera's rays."""
        yaw, pitch, roll, log_zoom = self.rates[:, None] * self.progress(times)
        noise = self.jitter.at(times)
        rotation = rotations((yaw + noise[0]) / self.focal, (pitch + noise[1]) / self.focal, roll + noise[2])
        inverse_focal = 1 / (self.focal * np.exp(log_zoom))
        scale = np.stack([inverse_focal, inverse_focal, np.ones_like(inverse_focal)], -1)
        return rotation * scale[:, None, :]


def rotations(yaw: np.ndarray, pitch: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """Rotation matrices (N, 3, 3): yaw > 0 turns right, pitch > 0 up, roll > 0 clockwise from behind the camera."""
    zero, one = np.zeros_like(yaw), np.ones_like(yaw)

    def matrix(*rows: list[np.ndarray]) -> np.ndarray:
        return np.stack([np.stack(row, -1) for row in rows], -2)

    cos, sin = np.cos(yaw), np.sin(yaw)
    turn = matrix([cos, zero, sin], [zero, one, zero], [-sin, zero, cos])
    cos, sin = np.cos(pitch), np.sin(pitch)
    nod = matrix([one, zero, zero], [zero, cos, -sin], [zero, sin, cos])
    cos, sin = np.cos(roll), np.sin(roll)
    return turn @ nod @ matrix([cos, -sin, zero], [sin, cos, zero], [zero, zero, one])


def draw_jitter(rng: np.random.Generator, *, rms: float, roll_rms: float, hertz: tuple[float, float]) -> Jitter:
    """Draws noise of the given root mean square (short sides; radians for roll)."""
    weights = rng.uniform(0.3, 1.0, (3, 5))
    weights *= np.sqrt(2) / np.linalg.norm(weights, axis=1, keepdims=True)
    axis_rms = np.array([rms * rng.uniform(0.5, 1), rms * rng.uniform(0.5, 1), roll_rms])
    return Jitter(weights * axis_rms[:, None], rng.uniform(*hertz, (3, 5)), rng.uniform(0, 2 * np.pi, (3, 5)))


def draw_speed_profile(rng: np.random.Generator, duration_seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Draws a constant, an eased, or a part-way speed (moving at least 60 % of the time) and integrates it."""
    kind = rng.choice(["constant", "eased", "part_way"], p=[0.4, 0.35, 0.25])
    begin, end, ramp = 0.0, 1.0, 1e-3
    if kind == "eased":
        ramp = rng.uniform(0.15, 0.4)
    elif kind == "part_way":
        share = rng.uniform(0.6, 0.95)
        begin = rng.choice([0.0, 1.0, rng.uniform()]) * (1 - share)
        end, ramp = begin + share, rng.uniform(0.02, 0.1)
    at = np.linspace(0, 1, 401)
    rising, falling = np.clip((at - begin) / ramp, 0, 1), np.clip((end - at) / ramp, 0, 1)
    smooth = np.minimum(rising, falling)
    speed = smooth * smooth * (3 - 2 * smooth)
    progress = np.concatenate([[0], np.cumsum((speed[1:] + speed[:-1]) / 2)]) * (duration_seconds / 400)
    return at * duration_seconds, progress


def draw_rates(rng: np.random.Generator, label: str) -> np.ndarray:
    """Draws the peak rates of yaw, pitch, roll and log focal length (4,) for one label."""
    axis, sign = {
        "pan_right": (0, 1),
        "pan_left": (0, -1),
        "tilt_up": (1, 1),
        "tilt_down": (1, -1),
        "roll_clockwise": (2, 1),
        "roll_counterclockwise": (2, -1),
        "zoom_in": (3, 1),
        "zoom_out": (3, -1),
    }.get(label, (0, 0))
    low, high = (PAN_SPEEDS, PAN_SPEEDS, ROLL_RATES, ZOOM_RATES)[axis]
    rates = np.zeros(4)
    rates[axis] = sign * np.exp(rng.uniform(np.log(low), np.log(high)))
    if axis < 2:  # nobody pans along a perfectly straight line
        rates[1 - axis] = rng.uniform(-0.1, 0.1) * rates[axis]
    return rates


def edge_speed(rates: np.ndarray) -> float:
    """The motion's speed at the middle of the frame's edge, in short sides a second."""
    return float(max(abs(rates[0]), abs(rates[1]), abs(rates[2]) / 2, abs(rates[3]) / 2))


def draw_label_jitter(rng: np.random.Generator, label: str, rates: np.ndarray) -> Jitter:
    """Draws the strong jitter of `shake`, or a hand's: clearly below the shake and below the motion."""
    if label == "shake":
        return draw_jitter(
            rng, rms=rng.uniform(*SHAKE_JITTER), roll_rms=np.radians(rng.uniform(0.1, 2)), hertz=(1.5, 6.0)
        )
    limit = 0.8 * HAND_JITTER_MAX if label == "static" else min(HAND_JITTER_MAX, 0.05 * edge_speed(rates))
    rms = 0.0 if rng.uniform() < 0.35 else rng.uniform(0, limit)
    return draw_jitter(rng, rms=rms, roll_rms=0.7 * rms, hertz=(0.3, 2.0))


# one shot: the path, what moves in it, and how it looks


@dataclass(frozen=True)
class ForegroundObject:
    """A cut-out that moves on its own.

    `texture` is RGB uint8, `outline` (M, 2) a closed curve around the origin, `start` and `velocity` (2,) are short
    sides and short sides a second; `anchored` objects also move with the scene behind them.
    """

    texture: np.ndarray
    outline: np.ndarray
    start: np.ndarray
    velocity: np.ndarray
    anchored: bool


@dataclass(frozen=True)
class Look:
    """Exposure and color gains (2, 3: first and last frame, RGB), gamma, blur (short sides), noise (gray levels)."""

    gains: np.ndarray
    gamma: float
    blur: float
    noise: float


@dataclass(frozen=True)
class Shot:
    """All that decides how a file looks, but for its resolution and its compression."""

    label: str
    duration_seconds: float
    frame_rate: int
    aspect_ratio: float
    path: CameraPath
    photo_focal_pixels: float
    principal_point: np.ndarray
    objects: tuple[ForegroundObject, ...]
    look: Look
    noise_seed: int

    @property
    def num_frames(self) -> int:
        return max(1, round(self.duration_seconds * self.frame_rate))

    def photo_from_frame(self, times: np.ndarray) -> np.ndarray:
        """Homographies (N, 3, 3) from frame coordinates (short sides) to photograph pixels."""
        focal, (x, y) = self.photo_focal_pixels, self.principal_point
        return np.array([[focal, 0, x], [0, focal, y], [0, 0, 1]]) @ self.path.frame_to_photo_rays(times)


def project(homographies: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Applies homographies (N, 3, 3) to points (M, 2) or (N, M, 2); returns (N, M, 2)."""
    ones = np.ones((*points.shape[:-1], 1))
    mapped = np.concatenate([points, ones], -1) @ np.swapaxes(homographies, -1, -2)
    return mapped[..., :2] / mapped[..., 2:]


def frame_corners(aspect_ratio: float) -> np.ndarray:
    """The frame's corners and the middles of its edges (8, 2), in short sides."""
    half = np.array([aspect_ratio, 1.0]) / min(aspect_ratio, 1.0) / 2
    signs = [(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1) if (x, y) != (0, 0)]
    return half * np.array(signs)


def draw_shot(
    rng: np.random.Generator,
    label: str,
    photo: np.ndarray,
    *,
    textures: Sequence[np.ndarray] = (),
    foreground_area: float = FOREGROUND_AREA_MAX,
    retries: int = 60,
) -> Shot:
    """Draws a shot whose whole view stays inside `photo` (H, W, 3).

    The view shrinks, and then the motion slows down, until the way fits the photograph. Each of `textures` becomes a
    moving object; together they cover at most `foreground_area` of the frame.
    """
    height, width = photo.shape[:2]
    aspect = float(rng.choice(ASPECT_RATIOS))
    duration = float(rng.uniform(1, 4))
    rates = draw_rates(rng, label)
    jitter = draw_label_jitter(rng, label, rates)
    profile = draw_speed_profile(rng, duration)
    photo_focal = max(height, width) / 2 / np.tan(np.radians(rng.uniform(35, 75)) / 2)
    largest_view = min(height * min(aspect, 1.0), width / max(aspect, 1.0), min(height, width))
    view = rng.uniform(0.4, 0.85) * largest_view
    times = np.linspace(0, duration, 33)
    for _ in range(retries):
        path = CameraPath(photo_focal / view, rates, *profile, jitter)
        corners = project(path.frame_to_photo_rays(times), frame_corners(aspect)) * photo_focal
        low, high = corners.min((0, 1)) - 1, corners.max((0, 1)) + 1
        room = np.array([width, height]) - (high - low)
        if (room >= 0).all():
            break
        if view > 0.25 * largest_view:
            view *= 0.93
        else:
            rates = rates * 0.9
    principal_point = rng.uniform(0, 1, 2) * np.maximum(room, 0) - low
    rng_seed = int(rng.integers(2**31))
    return Shot(
        label=label,
        duration_seconds=duration,
        frame_rate=int(rng.choice(FRAME_RATES)),
        aspect_ratio=aspect,
        path=path,
        photo_focal_pixels=photo_focal,
        principal_point=principal_point,
        objects=draw_objects(rng, textures, aspect, foreground_area),
        look=draw_look(rng),
        noise_seed=rng_seed,
    )


def draw_objects(
    rng: np.random.Generator, textures: Sequence[np.ndarray], aspect_ratio: float, largest_area: float
) -> tuple[ForegroundObject, ...]:
    """Draws one moving cut-out for each texture; together they cover at most `largest_area` of the frame."""
    if not textures:
        return ()
    extent = np.array([aspect_ratio, 1.0]) / min(aspect_ratio, 1.0)
    areas = rng.uniform(0.1, 1.0) * largest_area * extent.prod() * rng.dirichlet(np.full(len(textures), 3.0))
    objects = []
    for texture, area in zip(textures, areas, strict=True):
        angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        radius = 1 + sum(rng.uniform(-0.2, 0.2) * np.cos(k * angle + rng.uniform(0, 6.3)) for k in (2, 3, 5))
        stretch = np.exp(rng.uniform(-0.5, 0.5))
        outline = np.stack([radius * np.cos(angle) * stretch, radius * np.sin(angle) / stretch], -1)
        outline *= np.sqrt(area / (cv2.contourArea(outline.astype(np.float32)) + 1e-9))
        heading, speed = rng.uniform(0, 2 * np.pi), rng.uniform(0.02, 0.5)
        start = rng.uniform(-0.5, 0.5, 2) * extent
        velocity = speed * np.array([np.cos(heading), np.sin(heading)])
        objects.append(ForegroundObject(texture, outline, start, velocity, bool(rng.uniform() < 0.7)))
    return tuple(objects)


def draw_look(rng: np.random.Generator) -> Look:
    """Draws exposure and color drift, gamma, blur and noise."""
    exposure = rng.uniform(0.75, 1.2) * (1 + np.array([-0.5, 0.5]) * rng.uniform(-0.2, 0.2))
    color = rng.uniform(0.92, 1.08, 3) * (1 + np.array([[-0.5], [0.5]]) * rng.uniform(-0.06, 0.06, 3))
    return Look(
        gains=exposure[:, None] * color,
        gamma=float(np.exp(rng.uniform(-0.3, 0.3))),
        blur=float(rng.uniform(0, 0.006)) if rng.uniform() < 0.5 else 0.0,
        noise=float(rng.uniform(0, 7)) if rng.uniform() < 0.5 else 0.0,
    )


def without_distractions(shot: Shot) -> Shot:
    """The same camera movement without foreground objects, jitter, blur and noise."""
    quiet = shot.path.jitter if shot.label == "shake" else replace(shot.path.jitter, amplitudes=np.zeros((3, 5)))
    look = replace(shot.look, blur=0.0, noise=0.0)
    return replace(shot, path=replace(shot.path, jitter=quiet), objects=(), look=look)


# pixels


def frame_size(aspect_ratio: float, short_side: int) -> tuple[int, int]:
    """Width and height in pixels, both even."""
    width, height = (max(1.0, ratio) * short_side / 2 for ratio in (aspect_ratio, 1 / aspect_ratio))
    return 2 * round(width), 2 * round(height)


def render_frames(shot: Shot, photo: np.ndarray, times: np.ndarray, *, size: tuple[int, int]) -> np.ndarray:
    """Renders the shot at `times` (N,) as RGB uint8 (N, height, width, 3); `size` is (width, height) in pixels.

    A size that is squarer than the shot's own shows the center of its view, as a center crop would.
    """
    width, height = size
    short_side = min(size)
    centered = np.array([[1, 0, -(width - 1) / 2], [0, 1, -(height - 1) / 2], [0, 0, short_side]]) / short_side
    views = shot.photo_from_frame(times)
    photo, shrink = antialiased(photo, views, short_side)
    to_photo = np.diag([shrink, shrink, 1.0]) @ views @ centered
    rng = np.random.default_rng(shot.noise_seed)
    frames = np.empty((len(times), height, width, 3), np.uint8)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    for frame, matrix in zip(frames, to_photo, strict=True):
        cv2.warpPerspective(photo, matrix, size, dst=frame, flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    for item in shot.objects:
        paint_object(frames, item, shot, times)
    for frame, time in zip(frames, times, strict=True):
        frame[:] = apply_look(frame, shot.look, time / shot.duration_seconds, short_side, rng)
    return frames


def antialiased(photo: np.ndarray, views: np.ndarray, short_side: int) -> tuple[np.ndarray, float]:
    """Shrinks the photograph to about the resolution of the widest view; returns it and the factor."""
    left, right = project(views, np.array([[-0.5, 0.0], [0.5, 0.0]])).swapaxes(0, 1)
    shrink = short_side / np.linalg.norm(right - left, axis=-1).max()
    if shrink > 0.8:
        return photo, 1.0
    return cv2.resize(photo, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA), shrink


def paint_object(frames: np.ndarray, item: ForegroundObject, shot: Shot, times: np.ndarray) -> None:
    """Paints one cut-out into `frames` (N, H, W, 3) in place."""
    height, width = frames.shape[1:3]
    short_side = min(width, height)
    outline = item.outline * short_side
    half = int(np.abs(outline).max()) + 2
    mask = np.zeros((2 * half, 2 * half), np.uint8)
    cv2.fillPoly(mask, [np.round(outline + half).astype(np.int32)], 255)
    texture = cv2.resize(item.texture, (2 * half, 2 * half), interpolation=cv2.INTER_AREA)
    cut_out = np.dstack([texture, mask])
    positions = object_positions(item, shot, times) * short_side + (width / 2 - half, height / 2 - half)
    for frame, (x, y) in zip(frames, positions, strict=True):
        left, top = int(np.floor(x)), int(np.floor(y))
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + 2 * half, width), min(top + 2 * half, height)
        if x0 >= x1 or y0 >= y1:
            continue
        shift = np.array([[1, 0, x - x0], [0, 1, y - y0]])
        layer = cv2.warpAffine(cut_out, shift, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR)
        alpha = layer[..., 3:].astype(np.float32) / 255
        frame[y0:y1, x0:x1] = frame[y0:y1, x0:x1] * (1 - alpha) + layer[..., :3] * alpha


def object_positions(item: ForegroundObject, shot: Shot, times: np.ndarray) -> np.ndarray:
    """Where the object's center is in the frame (N, 2), in short sides."""
    own = item.start + item.velocity * times[:, None]
    if not item.anchored:
        return own
    views = shot.photo_from_frame(np.concatenate([[0.0], times]))
    spot = project(views[:1], item.start[None])
    return project(np.linalg.inv(views[1:]), spot)[:, 0] + item.velocity * times[:, None]


def apply_look(
    frame: np.ndarray, look: Look, progress: float, short_side: int, rng: np.random.Generator
) -> np.ndarray:
    """Applies exposure, color, gamma, blur and noise to one frame (H, W, 3) uint8."""
    gains = look.gains[0] + (look.gains[1] - look.gains[0]) * progress
    levels = 255 * np.clip(np.linspace(0, 1, 256)[:, None] ** look.gamma * gains, 0, 1)
    frame = cv2.LUT(frame, np.round(levels).astype(np.uint8)[None])
    if look.blur * short_side > 0.3:
        frame = cv2.GaussianBlur(frame, (0, 0), look.blur * short_side)
    if look.noise > 0:
        first = rng.integers(len(NOISE) - frame.size) if frame.size < len(NOISE) else 0
        noise = np.resize(NOISE[first : first + frame.size], frame.shape) * look.noise
        frame = cv2.add(frame, noise, dtype=cv2.CV_8U)
    return frame


def patch_flow(shot: Shot, times: np.ndarray, grid: int) -> np.ndarray:
    """The camera's image motion at the centers of a square center crop's patches.

    Returns (T, grid, grid, 2): x and y displacement from each of `times` to the next, in short sides; the last
    instant, which has no next, repeats the one before.
    """
    centers = (np.arange(grid) + 0.5) / grid - 0.5
    points = np.stack(np.meshgrid(centers, centers), -1).reshape(-1, 2)
    views = shot.photo_from_frame(times)
    seen = project(views[:-1], points)
    flow = project(np.linalg.inv(views[1:]), seen) - points
    return np.concatenate([flow, flow[-1:]]).reshape(len(times), grid, grid, 2).astype(np.float32)


# files


def h264_round_trip(frames: np.ndarray, *, frame_rate: int, crf: int, preset: str = "veryfast") -> np.ndarray:
    """Compresses frames (N, H, W, 3) with H.264 and decodes them again."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
    encoder.time_base, encoder.thread_count = Fraction(1, frame_rate), 1
    encoder.options = {"crf": str(crf), "preset": preset}
    decoder = av.CodecContext.create("h264", "r")
    packets = [packet for frame in frames for packet in encoder.encode(av.VideoFrame.from_ndarray(frame))]
    packets += encoder.encode(None)
    decoded = [frame for packet in packets for frame in decoder.decode(packet)] + decoder.decode(None)
    return np.stack([frame.to_ndarray(format="rgb24") for frame in decoded])
