"""Whose witness it is: what was built, and how its tensors are called in common."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from adapters.contract import Adapter
from adapters.detector.cascade_stages import CascadeStages
from adapters.training.assembly import Built
from adapters.witness.framework import WitnessedFramework


@dataclass
class Subject:
    """A run's objects, and the adapter that built them."""

    adapter: Adapter
    built: Built
    controls: dict[str, Any]
    """Values that were read back, by the names of the controls."""

    @cached_property
    def names(self) -> dict[str, str]:
        """Common names by the framework's, where there is one."""
        common_name = self.adapter.common_names(self.built.run)
        names = {name: common_name(name) for name in self.built.model.state_dict()}
        return {name: common for name, common in names.items() if common is not None}

    @property
    def framework(self) -> WitnessedFramework:
        """What is asked of the framework for the witness alone."""
        return self.adapter.witnessed

    @property
    def stages(self) -> CascadeStages:
        """The RoI heads."""
        return self.adapter.roi_heads(self.built.model)

    @property
    def aligned(self) -> bool:
        """Whether the protocol, and no framework's own rules, says what everything should be."""
        return self.built.run.protocol.rules == "aligned"

    def tensors(self, *prefixes: str) -> dict[str, Tensor]:
        """Parameters and buffers by common names, all or those whose names begin so."""
        state = self.built.model.state_dict(keep_vars=True)
        named = {common: state[name] for name, common in self.names.items()}
        return {name: one for name, one in named.items() if name.startswith(prefixes)} if prefixes else named
