"""The recipe for the Dask operator: its pods are valid, its policies let in whom they should, and its commands exist.

The operator's own schema comes only with an operator; what of the cluster is Kubernetes' own is held against that.
"""

from pathlib import Path
from typing import Any

import click
import kubernetes_validate
import pytest
import yaml
from distributed.cli import dask_scheduler, dask_worker

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "workflows" / "recipes" / "dask-operator"
CLUSTER, *POLICIES = yaml.safe_load_all((RECIPE / "cluster.yaml").read_text())
DRIVER = yaml.safe_load((RECIPE / "driver.yaml").read_text())
SCHEDULER, WORKER = CLUSTER["spec"]["scheduler"], CLUSTER["spec"]["worker"]
PODS = {"scheduler": SCHEDULER["spec"], "worker": WORKER["spec"]}
EACH = pytest.mark.parametrize("name", PODS)
PORT = 8786

LABELS: dict[str, dict[str, str]] = {
    # The first two are what the operator puts on the pods.
    "scheduler": {"dask.org/cluster-name": CLUSTER["metadata"]["name"], "dask.org/component": "scheduler"},
    "worker": {"dask.org/cluster-name": CLUSTER["metadata"]["name"], "dask.org/component": "worker"},
    "driver": DRIVER["spec"]["template"]["metadata"]["labels"],
    "another cluster's worker": {"dask.org/cluster-name": "another", "dask.org/component": "worker"},
    "stranger": {},
}


def container(name: str) -> dict[str, Any]:
    """The only container of a pod."""
    [only] = PODS[name]["containers"]
    return dict(only)


def valid(kind: str, api: str, **more: Any) -> None:
    """Hold something against Kubernetes' own schema; no field is missing, misspelt or of another type."""
    document = {"apiVersion": api, "kind": kind, "metadata": {"name": "n"}, **more}
    for version in ("1.31", "1.33"):
        assert kubernetes_validate.validate(document, version, strict=True).startswith(version)


def test_the_cluster_is_one_of_the_operators() -> None:
    """With the parts that its schema demands, and no other."""
    assert (CLUSTER["apiVersion"], CLUSTER["kind"]) == ("kubernetes.dask.org/v1", "DaskCluster")
    assert set(CLUSTER["spec"]) == {"scheduler", "worker"}
    assert set(SCHEDULER) == {"spec", "service"}
    assert set(WORKER) == {"replicas", "spec"}
    assert WORKER["replicas"] > 0


def test_what_is_kubernetes_own_is_valid() -> None:
    """Pods, service and policies."""
    for pod in PODS.values():
        valid("Pod", "v1", spec=pod)
    valid("Service", "v1", spec=SCHEDULER["service"])
    for policy in POLICIES:
        assert policy["kind"] == "NetworkPolicy"
        valid("NetworkPolicy", policy["apiVersion"], spec=policy["spec"])


@EACH
def test_a_pod_is_nobody_and_may_do_nothing(name) -> None:
    """The user is that of the image."""
    user, context = PODS[name]["securityContext"], container(name)["securityContext"]
    assert user["runAsNonRoot"]
    assert f"USER {user['runAsUser']}\n" in (ROOT / "Dockerfile").read_text()
    assert context["readOnlyRootFilesystem"]
    assert not context["allowPrivilegeEscalation"]
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert not PODS[name]["automountServiceAccountToken"]


@pytest.mark.parametrize(("name", "command"), [("scheduler", dask_scheduler.main), ("worker", dask_worker.main)])
def test_its_command_exists(name, command: click.Command) -> None:
    """With all its options; Dask itself reads them."""
    assert container(name)["command"] == ["tini", "--", "dask", name]
    with command.make_context(name, list(container(name)["args"])) as context:
        assert context.params["dashboard"] is False


def test_only_workers_hold_a_gpu() -> None:
    """One each, which Dask is told of; Kubernetes would take a number, the operator's schema takes only strings."""
    assert container("worker")["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert "--resources=GPU=1" in container("worker")["args"]
    assert "nvidia.com/gpu" not in container("scheduler")["resources"]["limits"]


def test_the_driver_finds_the_scheduler() -> None:
    """Under the name that the operator gives its service."""
    [driver] = DRIVER["spec"]["template"]["spec"]["containers"]
    assert f"--scheduler=tcp://{CLUSTER['metadata']['name']}-scheduler:{PORT}" in driver["args"]
    assert SCHEDULER["service"]["selector"] == LABELS["scheduler"]
    assert [port["port"] for port in SCHEDULER["service"]["ports"]] == [PORT]
    assert SCHEDULER["service"]["type"] == "ClusterIP"


def selects(selector: dict[str, Any], pod: str) -> bool:
    """Whether a selector means a pod."""
    assert set(selector) == {"matchLabels"}
    return bool(selector["matchLabels"].items() <= LABELS[pod].items())


def hears(pod: str, other: str) -> bool:
    """Whether a pod can be reached from another: if no policy selects it, or one that does lets the other in."""
    policies = [policy["spec"] for policy in POLICIES if selects(policy["spec"]["podSelector"], pod)]
    assert all(policy["policyTypes"] == ["Ingress"] for policy in policies)
    sources = [source for policy in policies for rule in policy.get("ingress", ()) for source in rule["from"]]
    assert all(set(source) == {"podSelector"} for source in sources)
    return not policies or any(selects(source["podSelector"], other) for source in sources)


@pytest.mark.parametrize(
    ("pod", "friends"),
    [("scheduler", {"worker", "driver"}), ("worker", {"scheduler", "worker"}), ("driver", set())],
)
def test_nobody_else_is_let_in(pod, friends) -> None:
    """Who reaches a port of Dask's can run code there."""
    assert {other for other in LABELS if hears(pod, other)} == friends
