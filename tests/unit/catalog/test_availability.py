"""Retired models, and what may be tuned where."""

from datetime import date

import pytest

from maas_client import catalog
from maas_client.errors import ModelRetiredError, UnsupportedError

DAY = date(2025, 8, 30)
TODAY = date(2026, 11, 24)
PHI_3 = [f for f in catalog.load_models().values() if f.family in ("phi-3", "phi-3.5")]


@pytest.mark.parametrize("model", PHI_3, ids=lambda f: f.name)
def test_every_phi_3_is_retired_on_its_date(model: catalog.ModelInfo) -> None:
    assert catalog.is_retired(model, DAY)
    assert not catalog.is_retired(model, date(2025, 8, 29))
    with pytest.raises(ModelRetiredError) as caught:
        catalog.check_retirement(model, "azureml", TODAY)
    replacement = "Phi-4" if "medium" in model.name else "Phi-4-mini-instruct"
    assert (caught.value.model, caught.value.retired) == (model.name, "2025-08-30")
    assert caught.value.replacement == replacement


def test_retirement_message_has_date_replacement_and_advice() -> None:
    with pytest.raises(ModelRetiredError) as caught:
        catalog.check_retirement(catalog.get_model("Phi-3-mini"), "azureml", TODAY)
    message = str(caught.value)
    for part in (
        "Phi-3-mini-4k-instruct", "2025-08-30", "Phi-4-mini-instruct", "Client.local()",
        "allow_retired=True", "MAAS_CATALOG",
    ):  # fmt: skip
        assert part in message


def test_retired_model_is_allowed_locally_with_permission_or_before_its_date() -> None:
    model = catalog.get_model("Phi-3-mini")
    catalog.check_retirement(model, "local", TODAY)
    catalog.check_retirement(model, "azureml", TODAY, allow_retired=True)
    catalog.check_retirement(model, "azureml", date(2025, 8, 29))
    catalog.check_retirement(catalog.get_model("Phi-4-mini"), "azureml", TODAY)


def test_two_phases_of_retirement() -> None:
    """Base models end first; those who tuned one before can tune it longer, and tuned models answer longest."""
    model = catalog.get_model("o4-mini")
    today = date(2026, 11, 30)
    assert catalog.is_retired(model, today)
    catalog.check_retirement(model, "foundry", today)
    with pytest.raises(ModelRetiredError, match=r"tune it until 2027-04-16 or later"):
        catalog.check_retirement(model, "foundry", today, use="base deployment")
    with pytest.raises(ModelRetiredError):
        catalog.check_retirement(model, "foundry", date(2027, 4, 16))
    catalog.check_retirement(model, "foundry", date(2027, 10, 15), use="tuned deployment")
    with pytest.raises(ModelRetiredError, match=r"answer until 2027-10-16"):
        catalog.check_retirement(model, "foundry", date(2027, 10, 16), use="tuned deployment")


@pytest.mark.parametrize(
    ("name", "method", "message"),
    [
        ("o4-mini", "SFT", "by RFT, not by SFT"),
        ("gpt-4o-mini", "DPO", r"by SFT, not by DPO .*gpt-4o, gpt-4\.1, "),
        ("MedImageInsight-Premium", "SFT", "on images"),
    ],
)
def test_methods_that_foundry_does_not_offer(name: str, method: str, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        catalog.check_method(catalog.get_model(name), method)
    catalog.check_method(catalog.get_model("gpt-4.1"), method)


def test_retirement_notice() -> None:
    model = catalog.get_model("Phi-3-mini")
    assert "will be retired by Azure on 2025-08-30" in str(
        catalog.retirement_notice(model, date(2025, 1, 1))
    )
    assert "was retired by Azure on 2025-08-30" in str(catalog.retirement_notice(model, TODAY))
    assert catalog.retirement_notice(catalog.get_model("Phi-4"), TODAY) is None


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("Phi-3-mini", {"azureml", "local"}),
        ("Phi-3-small", {"local"}),
        ("Phi-3.5-MoE", {"azureml", "local"}),
        ("Phi-4", {"azureml", "local"}),
        ("Phi-4-mini", {"azureml", "local"}),
        ("Phi-4-multimodal", {"azureml", "local"}),
        ("Phi-4-reasoning", set()),
        ("Phi-4-mini-reasoning", set()),
        ("Ministral-3B", {"azureml", "foundry", "local"}),
        ("Qwen3-32B", {"foundry", "local"}),
        ("gpt-4.1-mini", {"foundry", "local"}),
        ("CXRReportgen-Premium", {"foundry", "local"}),
        ("Llama-3.3-70B-Instruct", {"azureml", "foundry", "local"}),
        ("gpt-oss-20b", {"foundry", "local"}),
        ("smollm2-135m", {"local"}),
        ("tiny", {"local"}),
    ],
)
def test_tunable_on(name: str, targets: set[str]) -> None:
    assert catalog.get_model(name).tunable_on == targets


def test_wrong_backend_error_names_the_right_one() -> None:
    with pytest.raises(UnsupportedError, match=r"Client\.azureml\(\) .*hub-based") as caught:
        catalog.check_tunable(catalog.get_model("Phi-4-mini"), "foundry")
    assert "foundry" in caught.value.message
    with pytest.raises(UnsupportedError, match="No backend"):
        catalog.check_tunable(catalog.get_model("Phi-4-reasoning"), "azureml")
    catalog.check_tunable(catalog.get_model("Ministral-3B"), "foundry")


def test_no_phi_is_offered_on_foundry() -> None:
    for model in catalog.load_models().values():
        assert ("foundry" in model.tunable_on) == (
            not model.family.startswith(("phi", "smol", "tiny"))
        )


def test_offer_dates_and_sources() -> None:
    mini = catalog.get_model("Phi-3-mini").offers[0]
    assert (mini.target, mini.start_date, mini.end_date) == (
        "azureml", date(2024, 7, 24), date(2025, 6, 10),
    )  # fmt: skip
    assert catalog.get_model("Phi-3.5-mini").offers[0].start_date == date(2024, 10, 31)
    assert catalog.get_model("Phi-3-small").offers == ()
    assert catalog.get_model("Phi-4-mini").offers[0].end_date is None
    sources = {offer.target: offer.source.id for offer in catalog.get_model("Ministral-3B").offers}
    assert sources == {"foundry": "docs-foundry-tuning", "azureml": "docs-regions"}


def test_replacements_exist_and_are_not_retired() -> None:
    for model in catalog.load_models().values():
        if model.replacement and catalog.find_model(model.replacement):
            assert not catalog.is_retired(catalog.get_model(model.replacement), TODAY)
