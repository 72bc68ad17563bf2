"""A detector of a study: what its runs of several seeds have in common."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Detector:
    """A variant with its options, in one framework, with one backbone; its runs differ in the seed alone.

    Attributes
    ----------
    label : str
        What the study calls the variant with these options; a title for imported detections.
    framework, backbone : str
    """

    label: str
    framework: str
    backbone: str

    @property
    def conditions(self) -> tuple[str, str]:
        """Framework and backbone: what detectors share that are compared with each other."""
        return self.framework, self.backbone
