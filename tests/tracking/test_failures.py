"""Which failure of a store is which, and what people are told."""

import pytest
import requests
from mlflow.exceptions import MlflowException, RestException

from shoes.tracking.failures import is_away, is_missing, is_refused, refusal


def http(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError("no", response=response)


def behind(cause: Exception) -> MlflowException:
    """As MLflow raises what an artifact's upload met."""
    try:
        try:
            raise cause
        except type(cause):
            raise MlflowException("wrapped")  # noqa: B904 - as MLflow does
    except MlflowException as error:
        return error


REFUSED = [http(401), http(403), behind(http(403)), RestException({"error_code": "PERMISSION_DENIED", "message": "no"})]
OTHERS = [http(404), http(500), behind(requests.ConnectionError("gone")), MlflowException("broken"), OSError("gone")]


@pytest.mark.parametrize("error", REFUSED)
def test_what_is_refused(error: Exception) -> None:
    assert is_refused(error)
    assert not is_missing(error)


@pytest.mark.parametrize("error", OTHERS)
def test_what_is_not(error: Exception) -> None:
    assert not is_refused(error)


def test_what_is_lost_or_away() -> None:
    assert is_missing(http(404))
    assert is_missing(RestException({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no"}))
    assert not is_missing(behind(requests.ConnectionError("gone")))
    assert is_away(behind(requests.ConnectionError("gone")))
    assert not is_away(MlflowException("broken"))


def test_each_refusal_has_its_own_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = refusal("https://mlflow.example", http(401))
    assert "to answer somebody without a name: set MLFLOW_TRACKING_USERNAME and" in str(unknown)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "anna")
    assert "refuses the password of anna: set" in str(refusal("https://mlflow.example", http(401)))
    forbidden = str(refusal("https://mlflow.example", http(403)))
    assert "give anna the permission EDIT" in forbidden
    assert "--allowed-hosts" in forbidden
