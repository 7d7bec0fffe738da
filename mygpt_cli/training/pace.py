"""The speed of training steps, without what comes between them."""


class Pace:
    """How fast steps are since it was last asked, without what comes between them."""

    def __init__(self) -> None:
        self._seconds, self._steps = 0.0, 0

    def took(self, seconds: float) -> None:
        """Count a step."""
        self._seconds += seconds
        self._steps += 1

    def steps_per_second(self) -> float:
        """Return the speed, and begin to count anew."""
        speed = self._steps / self._seconds
        self._seconds, self._steps = 0.0, 0
        return speed
