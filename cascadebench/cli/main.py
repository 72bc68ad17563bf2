"""The command line: ``cascadebench COMMAND``. Wrong input ends in one line and exit code 2."""

import sys

import typer

from cascadebench.cli import detection_commands, project_commands, study_commands
from cascadebench.core.errors import Fault, InputError
from cascadebench.execution.failures import as_fault

COMMANDS = {
    "doctor": project_commands.doctor,
    "plan": study_commands.plan,
    "prepare": project_commands.prepare,
    "describe-dataset": project_commands.describe_dataset,
    "freeze": study_commands.freeze,
    "audit": study_commands.audit,
    "evaluate": detection_commands.evaluate,
    "compare": detection_commands.compare,
    "import": detection_commands.import_detections,
    "evaluate-run": detection_commands.evaluate_run,
    "diagnose-run": detection_commands.diagnose_run,
    "aggregate": study_commands.aggregate,
    "intervals": study_commands.intervals,
    "examples": study_commands.examples,
    "report": study_commands.report,
    "export": study_commands.export,
    "new-variant": project_commands.new_variant,
    "docs": study_commands.docs,
    "schemas": project_commands.schemas,
}
"""Every command by its name, in the order of ``cascadebench --help``."""

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
for name, command in COMMANDS.items():
    app.command(name)(command)


def main() -> None:
    """Run the command line."""
    try:
        app()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1 if isinstance(error, Fault) else 2)
    except OSError as error:
        fault = as_fault(error)
        if fault is None:
            raise
        print(f"error: {fault}", file=sys.stderr)
        sys.exit(1)
