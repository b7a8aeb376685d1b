"""The figures that a configuration names, checked before any job."""

from collections.abc import Mapping
from typing import Any

from sysdpo.base.errors import UserError
from sysdpo.base.functions import LIBRARY, module_file
from sysdpo.base.settings import unknown_name
from sysdpo.report.figure import figure_name


def check_figures(config: Mapping[str, Any]) -> None:
    """Raises `UserError` about a figure that is neither a file of the package nor in a module that exists.

    Figures are not imported, since their libraries may be missing here.
    """
    folder = LIBRARY / "report" / "figures"
    known = sorted(path.stem for path in folder.glob("[a-z]*.py"))
    for system, described in config["systems"].items():
        references, where = described.get("figures") or [], f"systems.{system}.figures"
        for reference in references:
            module, own, _ = reference.rpartition(":")
            if own and module_file(module) is None:
                raise UserError(
                    f"{where}: '{reference}' should name a function as 'package.module:function' or 'file.py:function'"
                )
            if not own and reference not in known:
                raise UserError(f"{where}: {unknown_name(reference, 'figure', known)}")
        names = [figure_name(reference) for reference in references]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(f"{where}: '{twice[0]}' should be the name of one figure alone")
