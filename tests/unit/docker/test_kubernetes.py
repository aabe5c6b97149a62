"""The base for Kubernetes: valid objects, and every reference in them leads somewhere."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer.main
import yaml

from service.commands.serve import serve
from service.settings import Settings
from service.store.redis.cluster import ClusterStore
from service.store.url import open_store
from tests.support.paths import ROOT
from tests.support.repository.kustomize import BASE, Object, kustomization, named, of_kind, pods, rendered
from tests.support.tools import NO_KUBERNETES_VALIDATE

OBJECTS = rendered()
GUIDE = (ROOT / "docs/guides/deployment.md").read_text()
PODS = [pytest.param(spec, id=one["metadata"]["name"]) for one, spec in pods(OBJECTS)]
CONTAINERS = [
    pytest.param(spec, container, id=f"{one['metadata']['name']}-{container['name']}")
    for one, spec in pods(OBJECTS)
    for container in spec["containers"]
]
SERVER_NAME, VALKEY = "hetsyn", "valkey"


def selected(labels: dict[str, str]) -> list[Object]:
    """The specifications of the pods that have these labels."""
    return [
        spec for one, spec in pods(OBJECTS) if labels.items() <= one["spec"]["template"]["metadata"]["labels"].items()
    ]


def ports(spec: Object) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for one in spec["containers"] for port in one.get("ports", ())}


def server() -> tuple[Object, Object]:
    spec = named(OBJECTS, "Deployment", SERVER_NAME)["spec"]["template"]["spec"]
    return spec, spec["containers"][0]


def environment(container: Object) -> dict[str, Any]:
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container.get("env", ())}


@pytest.mark.parametrize("one", OBJECTS, ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
def test_objects_are_those_of_the_current_api(one: Object) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason=NO_KUBERNETES_VALIDATE)
    kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)


def test_every_file_is_part_of_the_base() -> None:
    base = kustomization()
    listed = {*base["resources"], *(name for one in base["configMapGenerator"] for name in one["files"])}
    there = {str(path.relative_to(BASE)) for path in BASE.rglob("*") if path.is_file()}
    assert there == listed | {"kustomization.yaml", "prometheus-adapter.yaml"}
    assert {one["name"] for one in base["images"]} <= {
        container["image"].partition(":")[0] for _, spec in pods(OBJECTS) for container in spec["containers"]
    }


@pytest.mark.parametrize("service", of_kind(OBJECTS, "Service"), ids=lambda one: one["metadata"]["name"])
def test_services_lead_to_ports_of_pods(service: Object) -> None:
    (spec,) = selected(service["spec"]["selector"])
    for port in service["spec"]["ports"]:
        assert port["targetPort"] in ports(spec)


@pytest.mark.parametrize("one", [one for one, _ in pods(OBJECTS) if "selector" in one["spec"]])
def test_workloads_select_their_own_pods(one: Object) -> None:
    wanted = one["spec"]["selector"]["matchLabels"]
    assert selected(wanted) == [one["spec"]["template"]["spec"]]


def test_budgets_and_policies_select_pods() -> None:
    for budget in of_kind(OBJECTS, "PodDisruptionBudget"):
        assert selected(budget["spec"]["selector"]["matchLabels"])
    for policy in of_kind(OBJECTS, "NetworkPolicy"):
        (target,) = selected(policy["spec"]["podSelector"]["matchLabels"])
        for rule in policy["spec"]["ingress"]:
            assert {port["port"] for port in rule["ports"]} <= ports(target).keys()
            for peer in rule["from"]:
                wanted = [{key: value} for key, value in peer["podSelector"].get("matchLabels", {}).items()]
                for expression in peer["podSelector"].get("matchExpressions", ()):
                    wanted += [{expression["key"]: value} for value in expression["values"]]
                assert all(selected(one) for one in wanted)


@pytest.mark.parametrize("spec", PODS)
def test_volumes_and_secrets_are_there(spec: Object) -> None:
    claims = named(OBJECTS, "StatefulSet", VALKEY)["spec"]["volumeClaimTemplates"]
    volumes = {one["name"] for one in spec.get("volumes", ())}
    if spec is named(OBJECTS, "StatefulSet", VALKEY)["spec"]["template"]["spec"]:
        volumes |= {one["metadata"]["name"] for one in claims}
    files: set[str] = set()
    for volume in spec.get("volumes", ()):
        if "configMap" in volume:
            files |= named(OBJECTS, "ConfigMap", volume["configMap"]["name"])["data"].keys()
    for container in spec["containers"]:
        assert {mount["name"] for mount in container.get("volumeMounts", ())} <= volumes
        for path in re.findall(r"/etc/valkey/(\S+?)['\",\]]", str(container)):
            assert path in files
        for value in environment(container).values():
            if isinstance(value, dict) and "secretKeyRef" in value:
                secret = value["secretKeyRef"]
                assert f"create secret generic {secret['name']}" in GUIDE
                assert f"--from-literal={secret['key']}=" in GUIDE


@pytest.mark.parametrize(("spec", "container"), CONTAINERS)
def test_containers_are_restricted(spec: Object, container: Object) -> None:
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    own = container["securityContext"]
    assert (own["readOnlyRootFilesystem"], own["allowPrivilegeEscalation"]) == (True, False)
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert container["resources"]["limits"]["memory"]
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}


@pytest.mark.parametrize(("spec", "container"), CONTAINERS)
def test_probes_ask_what_is_there(spec: Object, container: Object) -> None:
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        probe = container.get(name, {})
        if "httpGet" in probe:
            assert probe["httpGet"]["port"] in ports(spec)
            assert probe["httpGet"]["path"] in ("/health/live", "/health/ready")


def test_the_nodes_of_valkey_are_named_as_the_set_names_them() -> None:
    nodes = named(OBJECTS, "StatefulSet", VALKEY)
    service = named(OBJECTS, "Service", nodes["spec"]["serviceName"])
    assert service["spec"]["clusterIP"] == "None"
    port = ports(nodes["spec"]["template"]["spec"])["valkey"]
    names = [f"{VALKEY}-{n}.{service['metadata']['name']}:{port}" for n in range(nodes["spec"]["replicas"])]
    for _, spec in pods(OBJECTS):
        for container in spec["containers"]:
            listed = environment(container).get("NODES")
            assert listed is None or listed.split() == names
    store = environment(server()[1])["HETSYN_STORE"]
    assert urlsplit(store).netloc.rpartition("@")[2].split(",") == names


async def test_the_server_s_store_is_a_cluster_whose_password_is_a_secret() -> None:
    variables = environment(server()[1])
    url, secrets = variables["HETSYN_STORE"], re.findall(r"\$\((\w+)\)", variables["HETSYN_STORE"])
    assert ["secretKeyRef" in variables[name] for name in secrets] == [True]
    assert list(variables).index(secrets[0]) < list(variables).index("HETSYN_STORE")  # or it would not be expanded
    store = open_store(url.replace(f"$({secrets[0]})", "a1b2"))
    assert isinstance(store, ClusterStore)
    await store.close()


def test_the_server_is_started_with_options_that_it_has_and_has_time_to_end() -> None:
    spec, container = server()
    program, command, *options = container["args"]
    assert (program, command) == ("hetsyn", "serve")
    known = {name for parameter in typer.main.get_command(serve).params for name in parameter.opts}
    values = {name: value for name, _, value in (option.partition("=") for option in options)}
    assert values.keys() <= known
    assert int(values["--port"]) == ports(spec)["http"]
    assert "--insecure" in values  # else it would not start on this address without keys
    stop_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    finish_s = Settings(ROOT / "models").finish_s
    assert spec["terminationGracePeriodSeconds"] >= stop_s + float(values["--drain-s"]) + finish_s + 10
    ready = container["readinessProbe"]
    assert float(values["--drain-s"]) > ready["periodSeconds"] * ready["failureThreshold"]


def test_the_autoscaler_reads_the_metric_that_the_adapter_makes() -> None:
    (scaler,) = of_kind(OBJECTS, "HorizontalPodAutoscaler")
    target = scaler["spec"]["scaleTargetRef"]
    deployment = named(OBJECTS, target["kind"], target["name"])
    assert "replicas" not in deployment["spec"]  # or each kubectl apply would undo what the autoscaler did
    (rule,) = yaml.safe_load((BASE / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    assert [metric["pods"]["metric"]["name"] for metric in scaler["spec"]["metrics"]] == [rule["name"]["as"]]
    assert rule["seriesQuery"].startswith("hetsyn_queue_seconds_bucket{")


def test_a_node_of_valkey_keeps_the_promises_of_the_store() -> None:
    settings = dict(
        line.split(maxsplit=1)
        for line in named(OBJECTS, "ConfigMap", "valkey-files")["data"]["valkey.conf"].splitlines()
        if line and not line.startswith("#")
    )
    wanted = {
        "maxmemory-policy": "noeviction", "appendonly": "yes", "appendfsync": "always", "cluster-enabled": "yes",
        "cluster-require-full-coverage": "no",
    }  # fmt: skip
    assert wanted.items() <= settings.items()
