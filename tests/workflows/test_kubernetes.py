"""The recipes for Kubernetes: valid, strict, and of one mind with the exit codes and options of the command."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import kubernetes_validate
import pytest
import yaml

from workflows.cli.main import cli

RECIPES = Path(__file__).parents[2] / "workflows" / "recipes"
RECIPE = RECIPES / "kubernetes"
HEALED_BY_A_RERUN = {75, 143}


def documents() -> Iterator[Any]:
    """All jobs that the recipes make; the last runs on a Dask cluster, which test_dask_operator.py looks at."""
    for path in (*sorted(RECIPE.glob("*.yaml")), RECIPES / "dask-operator" / "driver.yaml"):
        for document in yaml.safe_load_all(path.read_text()):
            yield pytest.param(document, id=document["metadata"]["name"])


ALL = pytest.mark.parametrize("document", list(documents()))


def job(document: dict[str, Any]) -> dict[str, Any]:
    """The job's spec."""
    spec: dict[str, Any] = document["spec"]
    return spec["jobTemplate"]["spec"] if document["kind"] == "CronJob" else spec


def pod(document: dict[str, Any]) -> dict[str, Any]:
    """The pod's spec."""
    spec: dict[str, Any] = job(document)["template"]["spec"]
    return spec


@ALL
@pytest.mark.parametrize("version", ["1.31", "1.33"])
def test_it_is_valid(document, version) -> None:
    """No field is missing, misspelt or of another type."""
    assert kubernetes_validate.validate(document, version, strict=True).startswith(version)


@ALL
def test_its_command_exists(document, tmp_path: Path) -> None:
    """With all its options; click itself reads them."""
    (tmp_path / "rasters.txt").write_text("/data/input.tif\n")
    [container] = pod(document)["containers"]
    name, *args = (arg.replace("$(PART)", "0").replace("/data/", f"{tmp_path}/") for arg in container["args"])
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    with command.make_context(name, args) as context:
        for file in context.params.values():
            if hasattr(file, "close"):
                file.close()


@ALL
def test_what_a_rerun_heals_is_tried_again(document) -> None:
    """And what it does not heal is not."""
    rules = job(document)["podFailurePolicy"]["rules"]
    final = {code for rule in rules for code in rule.get("onExitCodes", {}).get("values", ())}
    assert final == {1, 2, 3}
    assert not final & HEALED_BY_A_RERUN
    assert rules[0] == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    assert pod(document)["restartPolicy"] == "Never"  # else exit codes are not looked at
    assert all(rule["action"] in ("Ignore", "FailJob", "FailIndex") for rule in rules)


@ALL
def test_it_is_nobody_and_may_do_nothing(document) -> None:
    """The user is that of the image."""
    [container] = pod(document)["containers"]
    user = pod(document)["securityContext"]
    assert user["runAsNonRoot"]
    assert f"USER {user['runAsUser']}\n" in (RECIPES.parents[1] / "Dockerfile").read_text()
    context = container["securityContext"]
    assert context["readOnlyRootFilesystem"]
    assert not context["allowPrivilegeEscalation"]
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert not pod(document)["automountServiceAccountToken"]
    assert "ports" not in container


@ALL
def test_only_inference_holds_a_gpu(document) -> None:
    """Stitching needs none, nor does a driver whose workers infer."""
    [container] = pod(document)["containers"]
    infers = container["args"][0] == "run" and "--scheduler" not in " ".join(container["args"])
    assert (container["resources"]["limits"].get("nvidia.com/gpu") == 1) == infers


def test_there_are_as_many_parts_as_jobs() -> None:
    """Each knows its own by its index."""
    parts, _ = yaml.safe_load_all((RECIPE / "parts.yaml").read_text())
    assert parts["spec"]["completionMode"] == "Indexed"
    assert f"--shard=$(PART)/{parts['spec']['completions']}" in pod(parts)["containers"][0]["args"]
    [part] = [variable for variable in pod(parts)["containers"][0]["env"] if variable["name"] == "PART"]
    assert part["valueFrom"]["fieldRef"]["fieldPath"].endswith("['batch.kubernetes.io/job-completion-index']")


def test_a_night_that_is_still_at_work_is_not_overtaken() -> None:
    """No schema knows these words."""
    [nightly] = yaml.safe_load_all((RECIPE / "nightly.yaml").read_text())
    assert nightly["spec"]["concurrencyPolicy"] == "Forbid"
