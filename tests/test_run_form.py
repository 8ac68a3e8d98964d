"""The dashboard's form of a run, and the deployments that it belongs to."""

from tests.test_flows import STAGES


def test_the_run_form_reads_well() -> None:
    from prefect.utilities.callables import parameter_schema

    from flows.overnight import overnight

    schema = parameter_schema(overnight).model_dump_for_openapi()
    sections = schema["definitions"]
    assert list(sections["Recipe"]["properties"]) == [
        *("name", "model", "data", "train", "eval", "gate", "inference", "publish", "window")
    ]
    for name, section in sections.items():
        assert section["description"]
        assert not section["title"].endswith("Spec")
        for field, about in section["properties"].items():
            if "$ref" not in about:
                assert about["description"], f"{name}.{field}"
                assert "_" not in about["title"], f"{name}.{field}"
    assert "title" not in sections["Recipe"]["properties"]["train"], "it has that of its section"
    assert sections["TrainSpec"]["title"] == "Training"
    train = sections["TrainSpec"]["properties"]
    assert train["lr_scheduler"]["title"] == "Learning rate scheduler"
    assert train["mixed_precision"]["enum"] == ["auto", "no", "fp16", "bf16"]
    assert (train["rank"]["minimum"], train["rank"]["maximum"]) == (1, 256)


def test_every_deployment_points_at_a_flow_that_takes_its_parameters() -> None:
    import importlib

    import yaml

    from shoes.settings import PROJECT_ROOT

    text = (PROJECT_ROOT / "prefect.yaml").read_text()
    document = yaml.safe_load(text.replace("{{ $TZ }}", "America/Sao_Paulo"))
    names = {deployment["name"] for deployment in document["deployments"]}
    assert {"overnight", "prototype", "demo", *STAGES} - {"choose-checkpoint", "prove-export"} == names
    for deployment in document["deployments"]:
        module, _, function = deployment["entrypoint"].partition(":")
        getattr(importlib.import_module(module), function).validate_parameters(deployment["parameters"])
