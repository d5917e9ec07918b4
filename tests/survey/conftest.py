"""A survey of small frames."""

import pytest

SMALL = {
    "seed": 5,
    "scene": {
        "frame_size": 240,
        "star_density": 24.0,
        "star_mag": [16.4, 22.8],
        "galaxy_density": 14.0,
        "sn_per_frame": 8,
        "sn_mag": [19.0, 23.0],
        "sn_mag_peak": 21.5,
    },
    "subtraction": {"regions": 16},
}


@pytest.fixture
def small() -> dict:
    """Configuration of a survey of small frames, free to be changed."""
    return {key: dict(value) if isinstance(value, dict) else value for key, value in SMALL.items()}
