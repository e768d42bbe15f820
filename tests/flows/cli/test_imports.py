"""Commands that need no Prefect do not import it: that takes longer than all they do."""

import subprocess
import sys

COMMANDS = ("app", "status", "plan", "failures", "check")


def test_commands_start_without_prefect() -> None:
    modules = ", ".join(f"flows.cli.{command}" for command in COMMANDS)
    program = f"import sys, {modules}; sys.exit('prefect' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_list_of_commands_needs_neither_their_models_nor_the_store_nor_the_api() -> None:
    program = (
        "import sys; from flows.cli.app import main\n"
        "try: main(['--help'])\n"
        "finally: sys.exit(any(name in sys.modules for name in ('pydantic', 'boto3', 'requests', 'pikepdf')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, stdout=subprocess.DEVNULL).returncode == 0
