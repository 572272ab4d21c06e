"""An Airflow DAG: one raster in parts, and a stitching when all parts are there. See README.md."""

from datetime import timedelta
from typing import Any

from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import DAG, BaseOperator, Param
from airflow.sdk.exceptions import AirflowException, AirflowFailException

PARTS = 4
FINAL = (1, 2, 3)
"""Exit codes that no rerun heals; 75 and those of signals it may."""


class EomtBatch(BaseOperator):  # type: ignore[misc]  # Airflow lies in an environment of its own
    """The command, as a task; it is tried again only where a rerun may heal it, and goes on where it was."""

    template_fields = ("arguments",)

    def __init__(self, arguments: list[str], **options: Any) -> None:
        super().__init__(**options)
        self.arguments = arguments
        self.process = SubprocessHook()

    def execute(self, context: Any) -> None:
        """Run it; its words go to the task's log."""
        code = self.process.run_command(["eomt-batch", *self.arguments]).exit_code
        if code in FINAL:
            raise AirflowFailException(f"eomt-batch ended with exit code {code}, which no rerun heals")
        if code:
            raise AirflowException(f"eomt-batch ended with exit code {code}")

    def on_kill(self) -> None:
        """Stop it, which leaves what is done in order."""
        self.process.send_sigterm()


with DAG(
    dag_id="eomt_batch_parts",
    schedule=None,
    params={
        "raster": Param("/data/input.tif", type="string", pattern=r"^[^-]"),
        "mosaic": Param("/data/masks.zarr", type="string", pattern=r"^[^-].*\.zarr$"),
        "model": Param("aerial-tiny", type="string", pattern=r"^[^-]"),
    },
    default_args={"retries": 5, "retry_delay": timedelta(minutes=2), "retry_exponential_backoff": True},
):
    parts = [
        EomtBatch(
            task_id=f"part_{part}",
            pool="gpu",
            arguments=[
                "run",
                "{{ params.raster }}",
                "--out={{ params.mosaic }}",
                "--model={{ params.model }}",
                f"--shard={part}/{PARTS}",
                "--log-json",
            ],
        )
        for part in range(PARTS)
    ]
    parts >> EomtBatch(task_id="stitch", arguments=["stitch", "{{ params.mosaic }}", "--log-json"])
