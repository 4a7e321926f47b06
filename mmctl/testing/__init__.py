"""Public: contract tests for your own components, one class for each kind.

    from mmctl.testing import LabelerContract

    class TestMine(LabelerContract):
        component = "mine"                      # its name in a recipe, or the class or function itself
        params = ({}, {"temperature": 0.5})     # tables of parameters to try

pytest runs every promise of the kind; `mmctl plugins check mine` does the same without a test file. A failure says
which promise is broken, what was found and how to keep it. Things that are allowed but worth knowing are warnings of
the class ContractNote.
"""

from mmctl.testing.augment import AugmentContract
from mmctl.testing.backbone import BackboneContract
from mmctl.testing.contract import Broken, Contract, ContractNote
from mmctl.testing.dataset import DatasetContract
from mmctl.testing.labeler import LabelerContract
from mmctl.testing.launcher import LauncherContract
from mmctl.testing.loss import LossContract
from mmctl.testing.method import MethodContract

__all__ = [
    "AugmentContract",
    "BackboneContract",
    "Broken",
    "Contract",
    "ContractNote",
    "DatasetContract",
    "LabelerContract",
    "LauncherContract",
    "LossContract",
    "MethodContract",
]
