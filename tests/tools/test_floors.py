"""The picture in docs/architecture.md is what the imports say."""

import floors


def test_the_picture_is_drawn_from_the_imports() -> None:
    """If this fails: python tools/floors.py"""
    assert floors.PICTURE.read_text() == floors.draw()


def test_every_floor_says_what_it_is() -> None:
    packages = {path.name for path in floors.SOURCE.iterdir() if (path / "__init__.py").is_file()}
    assert packages == set(floors.SAYS)
