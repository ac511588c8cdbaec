"""What stands in the built-in street scenes: houses, trees, hedges, cars, people, poles.

All lengths are in metres; `x` is to the right and `z` ahead of the camera, on the ground.
"""

import math

import numpy as np

from binseg.data.scene_canvas import (
    BARK,
    BUILDING,
    CAR,
    CLOTHES,
    FACADES,
    LEAVES,
    METAL,
    PAINTS,
    PERSON,
    POLE,
    SKINS,
    TREE,
    Camera,
    Canvas,
    Rgb,
    depths,
    pick,
    shade,
)


def building(
    canvas: Canvas,
    camera: Camera,
    rng: np.random.Generator,
    *,
    x: float,
    near: float,
    far: float,
    height: float,
    light: float,
) -> None:
    """A house on one side of the street: its long facade in the plane x, from z = near to far.

    `light` is the brightness of the long facade; the narrow end that faces the camera gets the
    opposite.
    """
    color = pick(rng, FACADES)
    side = math.copysign(1.0, x)
    end, outer = max(near, 0.6), x + side * 12
    front = [camera(x, 0, end), camera(outer, 0, end), camera(outer, height, end)]
    canvas.polygon([*front, camera(x, height, end)], shade(color, 1.55 - light * 0.75), BUILDING)
    zs = depths(end, far, 4)
    bottom = [camera(x, 0, z) for z in zs]
    top = [camera(x, height, z) for z in zs[::-1]]
    canvas.polygon([*bottom, *top], shade(color, light), BUILDING)
    if rng.random() < 0.5:  # a ledge or a roof edge
        roof = height * rng.uniform(1.02, 1.12)
        edge = [camera(x, roof, z) for z in zs[::-1]]
        roof_color = pick(rng, ((90, 60, 52), (70, 72, 78), (120, 116, 110)))
        canvas.polygon([*(camera(x, height, z) for z in zs), *edge], roof_color, BUILDING)
    _windows(canvas, camera, rng, x=x, near=end, far=far, height=height, color=color)


def _windows(
    canvas: Canvas,
    camera: Camera,
    rng: np.random.Generator,
    *,
    x: float,
    near: float,
    far: float,
    height: float,
    color: Rgb,
) -> None:
    wide, tall = rng.uniform(1.6, 3.4), rng.uniform(2.6, 3.8)
    zs = np.arange(near + 0.4, far - wide * 0.6, wide)
    ys = np.arange(tall, height - 0.8, tall)
    if camera.focal * abs(x) * wide / near**2 < 0.7:
        return  # all below a pixel
    glass = (pick(rng, ((40, 48, 58), (90, 108, 126), (160, 178, 190), (214, 190, 120))), color)
    panes = [glass[0], shade(glass[0], rng.uniform(0.6, 1.5))]
    if len(zs) and len(ys):
        z, y = (grid.ravel() for grid in np.meshgrid(zs, ys))
        w, t = wide * rng.uniform(0.4, 0.75), tall * rng.uniform(0.4, 0.65)
        corners = np.array([(0, 0), (w, 0), (w, t), (0, t)])
        quads = np.empty((len(z), 4, 3))
        quads[..., 0] = x
        quads[..., 1] = y[:, None] + corners[:, 1]
        quads[..., 2] = z[:, None] + corners[:, 0]
        pixels = camera.many(quads)
        lit = rng.random(len(z)) < 0.7
        canvas.quads(pixels[lit], panes[0])
        canvas.quads(pixels[~lit], panes[1])
    if rng.random() < 0.7:  # shop fronts and doors
        z0, z1 = near + 0.3, far - 0.3
        while z0 < z1 - 1:
            if camera.focal * abs(x) / z0**2 < 0.7:
                break
            z2 = min(z1, z0 + rng.uniform(1.2, 4))
            door = [camera(x, 0.1, z0), camera(x, 0.1, z2), camera(x, 2.3, z2), camera(x, 2.3, z0)]
            canvas.polygon(door, shade(pick(rng, (*PAINTS, (40, 48, 58)), 0.4), 0.7), None)
            z0 = z2 + rng.uniform(0.5, 3)


def tree(
    canvas: Canvas,
    camera: Camera,
    rng: np.random.Generator,
    *,
    x: float,
    z: float,
    height: float,
    bare: bool,
) -> None:
    """A tree with a leafy crown, or with bare branches."""
    scale = camera.focal / z
    bark = pick(rng, BARK)
    fork = height * rng.uniform(0.25, 0.4)
    foot, top = camera(x, 0, z), camera(x + rng.uniform(-0.2, 0.2), fork * 1.2, z)
    canvas.line(foot, top, bark, scale * height * 0.04, TREE)
    if bare:
        _branch(canvas, rng, top, -math.pi / 2, scale * height * 0.3, scale * height * 0.03, bark)
        return
    leaf = pick(rng, LEAVES)
    radius = height * rng.uniform(0.26, 0.4)
    slim = rng.uniform(0.6, 1.1)
    count = int(rng.integers(8, 15))
    across = (rng.normal(0, 0.42, count) * radius * slim).tolist()
    up = (height - radius + rng.normal(0, 0.42, count) * radius).tolist()
    sizes = (rng.uniform(0.35, 0.7, count) * radius).tolist()
    tones = sorted(rng.uniform(0.6, 1.35, count).tolist())
    for dx, dy, size, tone in zip(across, up, sizes, tones, strict=True):
        # light above, dark below
        color = shade(leaf, tone * (0.85 + 0.25 * (dy - fork) / height))
        middle = camera(x + dx, dy, z)
        canvas.ellipse(middle, (scale * size, scale * size * 0.85), color, TREE)


def _branch(
    canvas: Canvas,
    rng: np.random.Generator,
    start: tuple[int, int],
    angle: float,
    length: float,
    width: float,
    color: Rgb,
) -> None:
    end = (
        round(start[0] + length * math.cos(angle)),
        round(start[1] + length * math.sin(angle)),
    )
    canvas.line(start, end, color, width, TREE)
    if length > 4 and width > 0.3:
        for turn in (-1, 1):
            bent = angle + turn * rng.uniform(0.25, 0.65)
            _branch(canvas, rng, end, bent, length * rng.uniform(0.6, 0.85), width * 0.65, color)


def hedge(
    canvas: Canvas,
    camera: Camera,
    rng: np.random.Generator,
    *,
    x: float,
    near: float,
    far: float,
    height: float,
) -> None:
    """A wall of shrubs and trees along one side of the street."""
    leaf = pick(rng, LEAVES)
    zs = depths(max(near, 0.6), far, 8)
    tops = (height * rng.uniform(0.65, 1.2, len(zs))).tolist()
    side = math.copysign(12.0, x)
    corners = [camera(x, 0, z) for z in zs]
    corners += [camera(x, t, z) for z, t in zip(zs[::-1], tops[::-1], strict=True)]
    end = zs[0]
    front = [camera(x, 0, end), camera(x + side, 0, end), camera(x + side, tops[0], end)]
    canvas.polygon([*front, camera(x, tops[0], end)], shade(leaf, 0.8), TREE)
    canvas.polygon(corners, shade(leaf, 0.9), TREE)
    for z, top in zip(zs[::-1], tops[::-1], strict=True):
        scale = camera.focal / z
        if scale < 2.5:
            continue
        for up, along, wide, tall, tone in rng.random((2, 5)).tolist():
            at = camera(x, top * (0.5 + 0.5 * up), z * (0.9 + 0.2 * along))
            radii = scale * (0.3 + 0.6 * wide), scale * (0.3 + 0.4 * tall)
            canvas.ellipse(at, radii, shade(leaf, 0.65 + 0.65 * tone), TREE)


def car(
    canvas: Canvas, camera: Camera, rng: np.random.Generator, *, x: float, z: float, across: bool
) -> None:
    """A car or van with its shadow: seen along the street, or from the side if `across`."""
    paint = pick(rng, PAINTS)
    long, wide = rng.uniform(3.6, 4.8), rng.uniform(1.65, 1.9)
    van = rng.random() < 0.2
    height = rng.uniform(1.9, 2.4) if van else rng.uniform(1.35, 1.65)
    waist = height * (0.5 if van else 0.6)
    half, depth = (long / 2, wide) if across else (wide / 2, long)

    def corners(low: float, high: float, inset: float, shift: float) -> list[tuple[int, int]]:
        near, far = z + shift, z + depth - shift
        left, right = x - half + inset, x + half - inset
        return [camera(a, b, c) for c in (near, far) for b in (low, high) for a in (left, right)]

    canvas.hull(corners(0, 0.02, -0.15, -0.1), (22, 22, 24), None)
    canvas.hull(corners(0.25, waist, 0, 0), shade(paint, 0.8), CAR)
    # the cabin tapers along the car, so from the side it is the ends that slope
    inset, shift = (long * 0.14, 0.1) if across else (0.12, 0.1 if van else 0.6)
    base, roof = corners(waist, waist, 0.04, 0.1), corners(height, height, inset, shift + 0.15)
    glass = pick(rng, ((30, 36, 44), (70, 84, 98), (120, 140, 156)))
    canvas.hull([*base, *roof], glass, CAR)
    canvas.hull(roof, paint, CAR)
    if van:
        canvas.hull([*corners(waist, height, 0.1, 0.3)[4:], *roof], shade(paint, 0.9), CAR)
    left, right = x - half, x + half
    rear = [camera(left, 0.25, z), camera(right, 0.25, z)]
    rear += [camera(right, waist, z), camera(left, waist, z)]
    canvas.polygon(rear, paint, CAR)
    scale = camera.focal / z
    wheel = 0.32
    if across:
        places = [(x - half * 0.62, z), (x + half * 0.62, z)]
        slim = 1.0
    else:
        places = [(left + 0.15, z), (right - 0.15, z)]
        slim = 0.4
    for wx, wz in places:
        at = camera(wx, wheel * 0.8, wz)
        canvas.ellipse(at, (scale * wheel * slim, scale * wheel), (20, 20, 22), CAR)
    lamp = ((190, 30, 30), (236, 230, 200))[int(rng.random() < 0.5)]
    for lx in (left + 0.2, right - 0.2):
        canvas.ellipse(camera(lx, waist * 0.8, z), (scale * 0.12, scale * 0.08), lamp, None)


def person(canvas: Canvas, camera: Camera, rng: np.random.Generator, *, x: float, z: float) -> None:
    """Somebody who stands or walks."""
    tall = rng.uniform(1.45, 1.9)
    coat, legs = pick(rng, CLOTHES, 0.4), pick(rng, CLOTHES, 0.4)
    scale = camera.focal / z
    stride, wide = rng.uniform(0.03, 0.3), rng.uniform(0.2, 0.3)
    hip, neck = tall * 0.5, tall * 0.83
    for step, tone in ((-stride, 0.8), (stride, 1.0)):
        foot = camera(x + step, 0, z)
        canvas.line(camera(x, hip, z), foot, shade(legs, tone), scale * 0.2, PERSON)
    body = [camera(x - wide, neck, z), camera(x + wide, neck, z)]
    skirt = wide * rng.uniform(0.7, 1.3)
    low = hip * rng.uniform(0.65, 1.0)
    canvas.polygon([*body, camera(x + skirt, low, z), camera(x - skirt, low, z)], coat, PERSON)
    for side in (-1, 1):
        shoulder, swing = camera(x + side * wide, neck, z), rng.uniform(0.0, 0.25)
        hand = camera(x + side * (wide + swing), hip * 0.95, z)
        canvas.line(shoulder, hand, shade(coat, 0.85), scale * 0.1, PERSON)
    if rng.random() < 0.3:
        bag = camera(x + rng.choice((-1, 1)) * (wide + 0.1), hip, z)
        canvas.ellipse(bag, (scale * 0.14, scale * 0.18), pick(rng, CLOTHES), PERSON)
    head = camera(x, tall * 0.92, z)
    canvas.ellipse(head, (scale * 0.13, scale * 0.16), pick(rng, SKINS), PERSON)
    if rng.random() < 0.7:
        hair = camera(x, tall * 0.97, z)
        canvas.ellipse(hair, (scale * 0.13, scale * 0.08), pick(rng, BARK, 0.5), PERSON)


def pole(canvas: Canvas, camera: Camera, rng: np.random.Generator, *, x: float, z: float) -> None:
    """A street lamp, a traffic sign or a traffic light; all of it is of class pole."""
    metal = pick(rng, METAL)
    scale = camera.focal / z
    kind = rng.integers(3)
    height = (rng.uniform(4.5, 8), rng.uniform(2.2, 3.2), rng.uniform(2.8, 4))[kind]
    foot, top = camera(x, 0, z), camera(x, height, z)
    canvas.line(foot, top, metal, scale * rng.uniform(0.26, 0.42), POLE)
    inward = -math.copysign(1.0, x)
    if kind == 0:
        arm = camera(x + inward * rng.uniform(0.6, 2), height + 0.2, z)
        canvas.line(top, arm, metal, scale * 0.18, POLE)
        canvas.ellipse(arm, (scale * 0.45, scale * 0.2), pick(rng, ((220, 216, 200), metal)), POLE)
    elif kind == 1:
        sign = pick(rng, ((190, 30, 36), (30, 70, 160), (230, 230, 226), (226, 186, 40)), 0.15)
        if rng.random() < 0.6:
            canvas.ellipse(top, (scale * 0.45, scale * 0.45), sign, POLE)
            canvas.ellipse(top, (scale * 0.28, scale * 0.28), shade(sign, 1.5), None)
        else:
            low, high, wide = height - 0.4, height + 0.5, rng.uniform(0.45, 0.9)
            box = [camera(x - wide, low, z), camera(x + wide, low, z)]
            box += [camera(x + wide, high, z), camera(x - wide, high, z)]
            canvas.polygon(box, sign, POLE)
    else:
        box = [camera(x - 0.3, height - 0.9, z), camera(x + 0.3, height - 0.9, z)]
        box += [camera(x + 0.3, height + 0.1, z), camera(x - 0.3, height + 0.1, z)]
        canvas.polygon(box, (26, 28, 26), POLE)
        lamp = int(rng.integers(3))
        at = camera(x, height - 0.1 - 0.3 * lamp, z)
        glow = ((230, 40, 40), (240, 180, 40), (60, 210, 110))[lamp]
        canvas.ellipse(at, (scale * 0.15, scale * 0.15), glow, None)
