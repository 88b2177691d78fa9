"""What a model behind HTTP is shown, and how it is configured."""

import pytest

from rslwm.evals.judges.endpoint import EndpointConfig
from rslwm.evals.judges.vision_language import VisionLanguageConfig, still_times
from rslwm.serialisation import ConfigError, from_dict, to_dict


def test_stills_are_the_paper_s() -> None:
    """Ten over the whole and six over the second half, each frame once."""
    assert still_times(1000) == sorted({*range(0, 1000, 111), 500, 600, 700, 799, 899, 999})
    assert len(still_times(1000)) == 15  # the last frame is in both
    assert still_times(3) == [0, 1, 2]


def test_settings_come_from_yaml_s_types_and_wrong_ones_are_named() -> None:
    config = VisionLanguageConfig(EndpointConfig("http://localhost:8000/v1", "judge-1", body={"top_k": 1}))
    assert from_dict(VisionLanguageConfig, to_dict(config)) == config
    with pytest.raises(ConfigError, match=r"endpoint\.url: 'file:///etc/passwd'"):
        EndpointConfig("file:///etc/passwd", "judge-1")
    with pytest.raises(ConfigError, match=r"endpoint\.model is empty"):
        EndpointConfig("http://localhost:8000/v1", "")
