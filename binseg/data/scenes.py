"""Built-in street scenes: a small segmentation task that needs no files and is not trivial.

A scene follows from (seed, index) alone, in every process and on every run. A street with
pavements, houses, trees, cars, people and poles is laid out in metres and seen by a random camera,
then light, fog, shadows, texture, blur, sensor noise and JPEG artefacts are put over it. Colours
overlap between classes on purpose (grey houses, road and pavement; dark cars on dark asphalt), so
a network needs context, not a colour table.
"""

import cv2
import numpy as np

from binseg.data.samples import Sample
from binseg.data.scene_canvas import (
    BUILDING,
    PAVEMENT,
    ROAD,
    SKY,
    TREE,
    Camera,
    Canvas,
    Rgb,
    depths,
    pick,
    shade,
)
from binseg.data.scene_parts import building, car, hedge, person, pole, tree

_FAR = 90.0  # metres; where the street ends
_GREYS: tuple[Rgb, ...] = (
    *((82, 82, 86), (104, 102, 100), (64, 66, 72), (118, 114, 110), (92, 86, 82)),
)
_PAVINGS: tuple[Rgb, ...] = (
    *((164, 160, 154), (144, 142, 142), (184, 172, 156), (164, 126, 108), (126, 124, 124)),
)
_SKIES: tuple[tuple[Rgb, Rgb], ...] = (  # above, at the horizon
    ((70, 120, 190), (176, 204, 230)),
    ((150, 156, 164), (206, 208, 210)),
    ((60, 70, 120), (240, 170, 110)),
    ((110, 112, 120), (160, 160, 164)),
    ((180, 198, 220), (236, 236, 232)),
    ((44, 50, 80), (130, 110, 120)),
)


def draw_scene(seed: int, index: int, size: tuple[int, int] = (144, 192)) -> Sample:
    """Draw one street scene.

    Args:
        seed: which set of scenes; 0 or more.
        index: which scene of the set; 0 or more.
        size: (height, width) in pixels, at least 32 each.

    Returns:
        The image, uint8 (h, w, 3) RGB, and its labels, uint8 (h, w) ids of table "scenes"
        without a single ignored pixel.
    """
    rng = np.random.default_rng([seed, index])
    height, width = size
    canvas = Canvas(size)
    camera = Camera(
        focal=height * rng.uniform(1.0, 1.45),
        height=rng.uniform(1.4, 2.6),
        center=(width * rng.uniform(0.32, 0.68), height * rng.uniform(0.34, 0.52)),
        bend=rng.normal(0, 0.0012),
        roll=rng.normal(0, 0.015),
    )
    street = _Street(rng)
    _sky(canvas, camera, rng)
    _skyline(canvas, camera, rng)
    _ground(canvas, camera, rng, street)
    _sides(canvas, camera, rng, street)
    _shadows(canvas, camera, rng, street)
    _things(canvas, camera, rng, street)
    image = _photograph(canvas, camera, rng)
    return Sample(image, canvas.labels, f"scene_{seed}_{index}")


class _Street:
    """Where things are, in metres from the camera's line: x of kerbs and house fronts, crossing."""

    def __init__(self, rng: np.random.Generator) -> None:
        left, right = rng.uniform(1.5, 3.8), rng.uniform(1.5, 3.8)
        self.kerbs = (-left, right)
        self.fronts = (-left - rng.uniform(2, 4), right + rng.uniform(2, 4))
        self.near = 0.8
        crossing = rng.uniform(9, 40)
        self.crossing = (crossing, crossing + rng.uniform(5, 9)) if rng.random() < 0.35 else None
        self.sun = rng.choice((-1.0, 1.0))  # the side that the light comes from
        self.sunny = rng.random() < 0.6
        self.bare = rng.random() < 0.08  # winter


def _sky(canvas: Canvas, camera: Camera, rng: np.random.Generator) -> None:
    width = canvas.labels.shape[1]
    # the ground hides the rest; the margin is for a tilted camera
    height = min(canvas.labels.shape[0], round(camera.center[1] + 0.1 * width) + 2)
    above, below = (np.array(c, np.float32) for c in _SKIES[rng.integers(len(_SKIES))])
    rows = np.linspace(0, 1, height, dtype=np.float32) * height / camera.center[1]
    ramp = np.clip(rows, 0, 1)[:, None]
    column = above * (1 - ramp) + below * ramp
    sky = np.repeat(column[:, None], width, axis=1)
    if rng.random() < 0.7:
        grid = rng.uniform(0, 1, (int(rng.integers(3, 7)), int(rng.integers(3, 7))))
        clouds = cv2.resize(grid.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        cover = np.clip((clouds - rng.uniform(0.35, 0.6)) * 3, 0, rng.uniform(0.4, 1))[..., None]
        tone = np.float32(rng.uniform(0.75, 1.15)) * (0.4 * below + 0.6 * 225)
        sky += cover * (tone - sky)
    canvas.image[:height] = np.clip(sky, 0, 255)
    canvas.labels[:] = SKY


def _skyline(canvas: Canvas, camera: Camera, rng: np.random.Generator) -> None:
    """Houses and trees far off, so that the street does not run into the sky."""
    z = _FAR * 1.1
    haze = rng.uniform(0.9, 1.25)
    # from the left edge of the image to the right one
    x = -z * (camera.center[0] / camera.focal + camera.bend * z) - rng.uniform(0, 20)
    end = x + 20 + z * canvas.labels.shape[1] / camera.focal
    while x < end:
        wide = rng.uniform(15, 50)
        tall = rng.uniform(6, 20)
        corners = [camera(x, -3, z), camera(x + wide, -3, z)]
        if rng.random() < 0.55:
            corners += [camera(x + wide, tall, z), camera(x, tall, z)]
            canvas.polygon(corners, shade(pick(rng, _GREYS), haze), BUILDING)
        else:
            tops = np.linspace(wide, 0, 6)
            corners += [camera(x + dx, tall * rng.uniform(0.4, 0.8), z) for dx in tops]
            canvas.polygon(corners, shade(pick(rng, ((70, 86, 62), (96, 92, 76))), haze), TREE)
        x += wide * rng.uniform(0.7, 1.3)


def _ground(canvas: Canvas, camera: Camera, rng: np.random.Generator, street: _Street) -> None:
    zs = depths(street.near, _FAR, 9)

    def strip(left: float, right: float, color: Rgb, kind: int | None, y: float = 0) -> None:
        edge = [camera(left, y, z) for z in zs] + [camera(right, y, z) for z in zs[::-1]]
        canvas.polygon(edge, color, kind)

    paving, asphalt = pick(rng, _PAVINGS), pick(rng, _GREYS)
    strip(-300, 300, paving, PAVEMENT)
    left, right = street.kerbs
    strip(left, right, asphalt, ROAD)
    for kerb, outside in ((left, -1), (right, 1)):
        strip(kerb, kerb + outside * 0.22, shade(paving, rng.uniform(0.65, 1.3)), PAVEMENT)
    for outside, kerb in ((-1, left), (1, right)):
        if rng.random() < 0.6:  # joints between slabs
            for z in np.arange(street.near + 0.4, 12, rng.uniform(0.8, 1.6)).tolist():
                end = camera(kerb + outside * 5, 0, z)
                cv2.line(canvas.image, camera(kerb, 0, z), end, shade(paving, 0.85), 1)
    if street.crossing:
        near, far = street.crossing
        corners = [camera(-60, 0, near), camera(60, 0, near), camera(60, 0, far)]
        canvas.polygon([*corners, camera(-60, 0, far)], asphalt, ROAD)
    _markings(canvas, camera, rng, street, asphalt)


def _markings(
    canvas: Canvas, camera: Camera, rng: np.random.Generator, street: _Street, asphalt: Rgb
) -> None:
    """Paint, patches and a zebra crossing on the road; they all are road."""
    left, right = street.kerbs
    paint = pick(rng, ((226, 226, 220), (206, 196, 150)), 0.15)

    def patch(x0: float, x1: float, z0: float, z1: float, color: Rgb) -> None:
        corners = [camera(x0, 0, z0), camera(x1, 0, z0), camera(x1, 0, z1), camera(x0, 0, z1)]
        canvas.polygon(corners, color, None)

    for _ in range(int(rng.integers(0, 5))):
        x, z = rng.uniform(left, right - 0.8), rng.uniform(1.5, 16)
        tone = shade(asphalt, rng.uniform(0.75, 1.25))
        patch(x, min(right, x + rng.uniform(0.5, 2)), z, z * 1.3, tone)
    if right - left > 4.5 and rng.random() < 0.8:
        middle, dash = (left + right) / 2, rng.uniform(1.5, 4)
        for z in np.arange(street.near + rng.uniform(0, dash), 45, 2 * dash):
            patch(middle - 0.08, middle + 0.08, z, z + dash, paint)
    if rng.random() < 0.5:
        for x in (left + 0.35, right - 0.35):
            for z0, z1 in ((street.near, 4), (4, 12), (12, 40)):
                patch(x - 0.06, x + 0.06, z0, z1, shade(paint, 0.95))
    if rng.random() < 0.3:
        z = rng.uniform(4, 12)
        for x in np.arange(left + 0.3, right - 0.5, 1.0):
            patch(x, x + 0.5, z, z + 2.5, paint)


def _sides(canvas: Canvas, camera: Camera, rng: np.random.Generator, street: _Street) -> None:
    """Houses, gardens and gaps behind the pavements, the far ones first."""
    for side, front in enumerate(street.fronts):
        facing_sun = (front < 0) == (street.sun > 0)
        light = rng.uniform(0.95, 1.15) if facing_sun else rng.uniform(0.6, 0.85)
        green = rng.random() < 0.25
        hedge(canvas, camera, rng, x=front * 1.3, near=25, far=_FAR, height=rng.uniform(2, 5))
        z, plots = street.near - rng.uniform(0, 6), []
        while z < _FAR * 0.8:
            long = rng.uniform(7, 18)
            plots.append((z, z + long))
            z += long
        for near, far in reversed(plots):
            if far < street.near + 0.5 or _overlaps(street.crossing, near, far):
                continue
            if not -2 <= camera(front, 0, far)[0] <= canvas.labels.shape[1] + 2:
                continue  # all of it is beside the image
            near = max(near, street.near)
            choice = rng.random()
            if choice < (0.25 if green else 0.75):
                set_back = front + (2 * side - 1) * rng.choice((0.0, 0.0, 1.0))
                tall = rng.uniform(4, 17)
                building(
                    canvas, camera, rng, x=set_back, near=near, far=far, height=tall, light=light
                )
            elif choice < 0.92:
                tall = rng.uniform(0.9, 5)
                hedge(canvas, camera, rng, x=front, near=near, far=far, height=tall)


def _overlaps(crossing: tuple[float, float] | None, near: float, far: float) -> bool:
    return crossing is not None and near < crossing[1] + 1 and far > crossing[0] - 1


def _shadows(canvas: Canvas, camera: Camera, rng: np.random.Generator, street: _Street) -> None:
    """Shadows of houses and trees on the ground."""
    if not street.sunny:
        return
    mask = np.zeros(canvas.labels.shape, np.uint8)
    front = street.fronts[0] if street.sun < 0 else street.fronts[1]
    z = street.near
    while z < 50:
        far = z + rng.uniform(4, 14)
        reach = front - street.sun * rng.uniform(0, 9)
        corners = [camera(front, 0, z), camera(front, 0, far)]
        corners += [camera(reach, 0, far), camera(reach, 0, z)]
        cv2.fillPoly(mask, [np.array(corners, np.int32)], 255)
        z = far + rng.choice((0.0, rng.uniform(0, 6)))
    for _ in range(int(rng.integers(0, 12))):  # dappled light under trees off the image
        at = camera(rng.uniform(*street.fronts), 0, rng.uniform(1.5, 20))
        radius = rng.uniform(0.02, 0.1) * canvas.labels.shape[0]
        cv2.ellipse(mask, at, (max(1, round(radius * 2)), max(1, round(radius * 0.6))), 0, 0, 360,
                    255, -1)  # fmt: skip
    mask[(canvas.labels != ROAD) & (canvas.labels != PAVEMENT)] = 0
    dark = rng.uniform(0.5, 0.75)
    tint = np.array([dark * 0.95, dark, min(1.0, dark * 1.1)], np.float32)
    canvas.image[mask > 0] = canvas.image[mask > 0] * tint


def _things(canvas: Canvas, camera: Camera, rng: np.random.Generator, street: _Street) -> None:
    """Trees, poles, cars and people, the far ones first."""
    left, right = street.kerbs
    things: list[tuple[float, str, float]] = []  # depth, what, x

    def put(what: str, z: float, inner: float, outer: float) -> None:
        """On one of the pavements, between shares `inner` and `outer` of its width."""
        side = int(rng.integers(2))
        kerb, front = street.kerbs[side], street.fronts[side]
        x = kerb + (front - kerb) * rng.uniform(inner, outer)
        things.append((max(z, 1.7 * abs(x)), what, x))  # nearer, it would be beside the image

    for _ in range(int(rng.integers(1, 5))):
        put("tree", rng.uniform(5, 30), 0.2, 1.0)
    for _ in range(int(rng.integers(1, 4))):
        put("pole", rng.uniform(2.5, 6), 0.05, 0.35)
    for _ in range(int(rng.integers(1, 5))):
        put("person", rng.uniform(2.2, 4.6), 0.05, 0.6)
    if rng.random() < 0.35:
        things.append((rng.uniform(2.8, 5), "person", rng.uniform(left, right) * 0.7))
    lanes = [left + 1.0, right - 1.0]
    for _ in range(int(rng.integers(1, 5))):
        things.append((rng.uniform(4.5, 17), "car", lanes[rng.integers(2)]))
    if rng.random() < 0.5:
        things.append((rng.uniform(7, 15), "car", (left + right) / 2 + rng.uniform(-1, 1)))
    if street.crossing:
        middle = sum(street.crossing) / 2
        things.append((middle, "across", rng.uniform(-9, 9)))
    for z, what, x in sorted(things, reverse=True):
        if what == "tree":
            tall = rng.uniform(3.5, 9)
            tree(canvas, camera, rng, x=x, z=z, height=tall, bare=street.bare)
        elif what == "pole":
            pole(canvas, camera, rng, x=x, z=z)
        elif what == "person":
            person(canvas, camera, rng, x=x, z=z)
        else:
            car(canvas, camera, rng, x=x, z=z, across=what == "across")


def _photograph(canvas: Canvas, camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """What a camera makes of it: texture, fog, light, blur, noise, exposure, compression."""
    height, width = canvas.labels.shape
    image: np.ndarray = canvas.image.astype(np.float32)
    image *= _texture(canvas.labels, rng)[..., None]
    if rng.random() < 0.3:  # fog hides what is near the horizon
        rows = np.abs(np.arange(height, dtype=np.float32) - camera.center[1]) / height
        amount = np.float32(rng.uniform(0.1, 0.35)) * np.exp(-rows * rng.uniform(5, 12))
        fog = np.float32(rng.uniform(150, 220))
        image += amount[:, None, None] * (fog - image)
    across = np.linspace(-1, 1, width, dtype=np.float32) * np.float32(rng.normal(0, 0.08))
    gains = (rng.normal(1, 0.045, 3) * np.exp(rng.normal(0, 0.16))).astype(np.float32)
    image *= (1 + across)[None, :, None] * gains
    sharp = rng.random()
    scale = height / 144
    if sharp < 0.2:  # camera or car in motion
        length = max(2, round(rng.uniform(2, 3.5) * scale))
        image = np.asarray(cv2.blur(image, (length, 1)))
    else:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), scale * rng.uniform(0.35, 0.8)))
    grain = np.float32(rng.uniform(1, 5))
    image += rng.standard_normal((height, width, 1), np.float32) * grain
    blotches: np.ndarray = rng.standard_normal((height // 2, width // 2, 3), np.float32)
    blotches *= grain * np.float32(0.6)
    image += cv2.resize(blotches, (width, height), interpolation=cv2.INTER_NEAREST)
    pixels: np.ndarray = np.clip(image, 0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 85))]
        _, coded = cv2.imencode(".jpg", pixels, quality)
        pixels = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))
    return pixels


def _texture(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """float32 (H, W) factors: coarse and fine irregularity, leaves rough, sky smooth."""
    height, width = labels.shape
    fine = rng.standard_normal((height, width), np.float32)
    coarse: np.ndarray = rng.standard_normal((max(4, height // 5), max(4, width // 5)), np.float32)
    coarse = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    rough = rng.uniform(0.02, 0.07, 8).astype(np.float32)  # by class, another in each scene
    spots = rng.uniform(0.02, 0.08, 8).astype(np.float32)
    rough[SKY], spots[SKY] = 0, 0
    rough[TREE], spots[TREE] = rng.uniform(0.1, 0.25), rng.uniform(0.1, 0.25)
    return np.clip(1 + rough[labels] * fine + spots[labels] * coarse, 0.2, 1.8)
