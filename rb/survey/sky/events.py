"""What changed in the sky between the template and the search image.

Supernovae of type Ia are always there; everything else is switched on by its number a frame in the
settings ``events``. An event is a point source with one flux in the template and another in the
search image, and an asteroid a short line.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from rb.survey.settings import EventSettings, SceneSettings
from rb.survey.sky.draws import (
    correlated_normals,
    normal_mags,
    places_in_hosts,
    power_law_mags,
    spread,
)
from rb.survey.sky.galaxies import Galaxies, draw_galaxies
from rb.survey.sky.render import Sources

KINDS = (
    "sn",
    "cc_sn",
    "tde",
    "kilonova",
    "nova",
    "variable_star",
    "agn",
    "asteroid",
    "fading",
)
"""Values of the catalogue's column `kind` for what is real."""

EXPLOSIONS = ("cc_sn", "tde", "kilonova", "nova")
"""Those that come with a host, as supernovae of type Ia do, but elsewhere in it."""

_TRAIL_POINTS = 7
"""Points that a trailed source is drawn as."""


@dataclass(frozen=True)
class Events:
    """Events of one frame; fluxes in ADU at the survey's zero point, positions in px.

    Attributes
    ----------
    kind : ndarray of str, shape (n,)
        One of `KINDS`.
    x, y : ndarray of shape (n,)
        Positions in the search image.
    flux, template_flux : ndarray of shape (n,)
        Fluxes in the search image and in the template.
    host : ndarray of int, shape (n,)
        Row of the galaxy in which the event lies, -1 for none.
    star : ndarray of int, shape (n,)
        Row of the star that varies, -1 for none.
    trail_x, trail_y : ndarray of shape (n,)
        How far it moves while the shutter is open, px.
    """

    kind: NDArray[np.str_]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    flux: NDArray[np.float64]
    template_flux: NDArray[np.float64]
    host: NDArray[np.int64]
    star: NDArray[np.int64]
    trail_x: NDArray[np.float64]
    trail_y: NDArray[np.float64]

    @classmethod
    def make(cls, kind: str, x: NDArray, y: NDArray, flux: NDArray, **others: NDArray) -> Events:
        """Events of one kind; what is not given is 0, or -1 for `host` and `star`."""
        n = len(x)
        values = {"host": np.full(n, -1), "star": np.full(n, -1)} | others
        for name in ("template_flux", "trail_x", "trail_y"):
            values.setdefault(name, np.zeros(n))
        return cls(np.full(n, kind, dtype="U16"), x, y, flux, **values)

    @classmethod
    def joined(cls, parts: list[Events]) -> Events:
        """Several lists of events as one."""
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)))

    def __len__(self) -> int:
        return len(self.x)

    @property
    def change(self) -> NDArray[np.float64]:
        """Flux in the search image minus flux in the template."""
        return self.flux - self.template_flux

    @property
    def extent(self) -> NDArray[np.float64]:
        """Length of the trails, px."""
        return np.hypot(self.trail_x, self.trail_y)

    def in_search(self) -> tuple[Sources, NDArray[np.int64]]:
        """What is drawn into the search image, and which event each point belongs to."""
        trailed = self.extent > 0.0
        count = np.where(trailed, _TRAIL_POINTS, 1)
        owner = np.repeat(np.arange(len(self)), count)
        first = np.cumsum(count) - count
        nth = np.arange(len(owner)) - first[owner]
        step = np.where(trailed[owner], nth / (_TRAIL_POINTS - 1.0) - 0.5, 0.0)
        return (
            Sources.points(
                self.x[owner] + step * self.trail_x[owner],
                self.y[owner] + step * self.trail_y[owner],
                self.flux[owner] / count[owner],
            ),
            owner,
        )


def draw_explosions(
    rng: np.random.Generator,
    settings: SceneSettings,
    kind: str,
    spots: NDArray[np.float64],
    zero_point: float,
    mag_peak: float | None = None,
    host_mag_peak: float | None = None,
    offset: float | None = None,
) -> tuple[Events, Galaxies]:
    """Put explosions at given places, each in a host of its own that lies round it.

    Magnitudes of explosions and hosts are correlated, because both grow with distance.

    Parameters
    ----------
    rng : numpy.random.Generator
        Random numbers of this frame and this step alone.
    settings : SceneSettings
        Magnitudes, and the hosts' sizes and structure.
    kind : str
        One of `KINDS`.
    spots : ndarray of shape (n, 2)
        Places in px.
    zero_point : float
        Magnitude of 1 ADU.
    mag_peak, host_mag_peak, offset : float, optional
        In place of `sn_mag_peak`, `host_mag_peak` and `sn_offset`.

    Returns
    -------
    events : Events
    hosts : Galaxies
        `events.host` counts their rows.
    """
    mag_peak = settings.sn_mag_peak if mag_peak is None else mag_peak
    host_mag_peak = settings.host_mag_peak if host_mag_peak is None else host_mag_peak
    offset = settings.sn_offset if offset is None else offset
    n = len(spots)
    normal = correlated_normals(rng, n, settings.host_correlation)
    mag = normal_mags(normal[0], settings.sn_mag, mag_peak, settings.sn_mag_width)
    host_mag = normal_mags(normal[1], settings.host_mag, host_mag_peak, settings.host_mag_width)
    # As many of the last ones as there are hostless ones.
    n_hosts = rng.binomial(n, 1.0 - settings.hostless_fraction)
    hosts = draw_galaxies(rng, settings, host_mag[:n_hosts], np.zeros((n_hosts, 2)), zero_point)
    hosts = hosts.moved(spots[:n_hosts] - places_in_hosts(rng, hosts.whole, offset))
    host = np.where(np.arange(n) < n_hosts, np.arange(n), -1)
    flux = 10.0 ** (-0.4 * (mag - zero_point))
    return Events.make(kind, spots[:, 0], spots[:, 1], flux, host=host), hosts


def draw_events(
    rng: np.random.Generator,
    settings: EventSettings,
    scene: SceneSettings,
    supernovae: Events,
    galaxies: Galaxies,
    stars: Sources,
    zero_point: float,
    edge: int,
) -> tuple[Events, Galaxies]:
    """Draw whatever else happens in a frame.

    Parameters
    ----------
    rng : numpy.random.Generator
        Random numbers of this frame and this step alone.
    settings : EventSettings
        Numbers a frame and distributions.
    scene : SceneSettings
        The sky that it happens in.
    supernovae : Events
        The supernovae of type Ia, from which other explosions keep their distance.
    galaxies : Galaxies
        Where the supernovae's hosts count their rows.
    stars : Sources
        Those of the field.
    zero_point : float
        Magnitude of 1 ADU.
    edge : int
        How far inside the frame explosions lie, px.

    Returns
    -------
    events : Events
        The supernovae first.
    galaxies : Galaxies
        With the hosts of other explosions at the end.
    """
    events = [supernovae]
    size = scene.frame_size
    taken = np.stack([supernovae.x, supernovae.y], axis=1)
    for kind in (*EXPLOSIONS, "fading"):
        count = rng.poisson(getattr(settings, f"{kind}_per_frame"))
        spots = spread(rng, count, size, scene.sn_separation_px, edge, taken)
        taken = np.concatenate([taken, spots])
        own = [getattr(settings, f"{kind}_{key}", None) for key in ("mag", "host_mag", "offset")]
        exploded, hosts = draw_explosions(rng, scene, kind, spots, zero_point, *own)
        exploded.host[exploded.host >= 0] += len(galaxies.mag)
        galaxies = Galaxies.joined(galaxies, hosts)
        if kind == "fading":
            exploded = replace(exploded, flux=0.0 * exploded.flux, template_flux=exploded.flux)
        events.append(exploded)

    rows = _some(rng, settings.variable_star_per_frame, np.arange(len(stars.x)))
    factor = _factor(rng, settings.variable_star_amplitude, len(rows))
    flux = stars.flux[rows] * (factor - 1.0)
    events.append(Events.make("variable_star", stars.x[rows], stars.y[rows], flux, star=rows))

    brightest, faintest = settings.agn_host_mag
    hosts_of_agn = np.flatnonzero((galaxies.mag >= brightest) & (galaxies.mag <= faintest))
    rows = _some(rng, settings.agn_per_frame, hosts_of_agn)
    nucleus = galaxies.whole.flux[rows] * rng.uniform(*settings.agn_share, len(rows))
    factor = _factor(rng, settings.agn_amplitude, len(rows))
    events.append(
        Events.make(
            "agn",
            galaxies.whole.x[rows],
            galaxies.whole.y[rows],
            nucleus * factor,
            template_flux=nucleus,
            host=rows,
        )
    )

    count = rng.poisson(settings.asteroid_per_frame)
    x, y = rng.uniform(0.0, size - 1.0, (2, count))
    mag = power_law_mags(rng, count, settings.asteroid_mag, settings.asteroid_slope)
    length, angle = rng.uniform(*settings.asteroid_trail_px, count), rng.uniform(0, np.pi, count)
    trail = {"trail_x": length * np.cos(angle), "trail_y": length * np.sin(angle)}
    events.append(Events.make("asteroid", x, y, 10.0 ** (-0.4 * (mag - zero_point)), **trail))
    return Events.joined(events), galaxies


def _some(rng: np.random.Generator, mean: float, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Some of these rows, each at most once."""
    return rng.permutation(rows)[: rng.poisson(mean)]


def _factor(rng: np.random.Generator, amplitude: float, count: int) -> NDArray[np.float64]:
    """By what the flux has changed; `amplitude` is the rms change in magnitudes."""
    return np.asarray(10.0 ** (0.4 * amplitude * rng.standard_normal(count)), dtype=np.float64)
