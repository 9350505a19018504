"""One call of Helm: an order as JSON in, its outcome as JSON out."""

import json
import sys

sys.path.insert(0, sys.argv[1])

import helm_python


def obey(order):
    chart = helm_python.Chart.load(order["chart"])
    match order["what"]:
        case "lint":
            return helm_python.lint(order["chart"], order["values"], strict=True)
        case "render":
            # As Helm's own command does; its function for rendering leaves that to the caller.
            chart.validate_schema(order["values"])
            return chart.render(
                order["values"],
                name=order.get("name", "botyard"),
                namespace=order.get("namespace", "botyard-system"),
                is_upgrade=order.get("is_upgrade"),
            )
        case "refusals":
            return [refusal(chart, values) for values in order["values"]]
        case "release":
            return release(chart, order)
    raise ValueError(order["what"])


def refusal(chart, values):
    try:
        chart.validate_schema(values)
        chart.render(values, name="botyard", namespace="botyard-system")
    except helm_python.HelmError as error:
        return str(error)
    return None


def release(chart, order):
    with helm_python.Config(
        kubeconfig_path=order["kubeconfig"], namespace=order["namespace"]
    ) as config:
        match order["action"]:
            case "install" | "upgrade":
                act = getattr(config, order["action"])
                return act(chart, "botyard", order["values"], wait="hookOnly", timeout=60)
            case "rollback":
                return config.rollback("botyard", wait="hookOnly", timeout=60)
            case "uninstall":
                return config.uninstall("botyard", wait="hookOnly", timeout=60)
    raise ValueError(order["action"])


try:
    print(json.dumps({"result": obey(json.load(sys.stdin))}))
except helm_python.HelmError as error:
    print(json.dumps({"error": str(error)}))
