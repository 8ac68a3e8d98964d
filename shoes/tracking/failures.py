"""What a tracking store raises, and what it means: it is away, it lets us not in, or it lacks something."""

from shoes.errors import TrackingRefused


def failures() -> tuple[type[Exception], ...]:
    """What a store that is away, locked or full raises."""
    import requests
    import sqlalchemy.exc
    from mlflow.exceptions import MlflowException

    return (MlflowException, requests.RequestException, sqlalchemy.exc.SQLAlchemyError, OSError)


def is_refused(error: BaseException | None) -> bool:
    """The store answered, and does not let us in: somewhere behind the error is HTTP 401 or 403."""
    import requests
    from mlflow.exceptions import MlflowException

    while error is not None:
        if isinstance(error, requests.HTTPError) and error.response is not None:
            if error.response.status_code in (401, 403):
                return True
        elif isinstance(error, MlflowException) and error.get_http_status_code() in (401, 403):
            return True
        error = error.__cause__ or error.__context__
    return False


def is_missing(error: BaseException | None) -> bool:
    """The store answered, and does not have what was asked for."""
    import requests
    from mlflow.exceptions import MlflowException

    while error is not None:
        if isinstance(error, requests.HTTPError) and error.response is not None and error.response.status_code == 404:
            return True
        if isinstance(error, MlflowException) and error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return True
        error = error.__cause__ or error.__context__
    return False


def refusal(tracking_uri: str, error: BaseException) -> TrackingRefused:
    """What is told of it: what the server said, and what to do."""
    reason = " ".join(str(error).split())[:300]
    return TrackingRefused(
        f"MLflow at {tracking_uri} refuses: {reason}\n    fix: set MLFLOW_TRACKING_USERNAME and "
        "MLFLOW_TRACKING_PASSWORD, in .env say, to a user who may write there; a refused address is allowed by "
        "the server's --allowed-hosts"
    )


def is_away(error: BaseException | None) -> bool:
    """The store did not answer: somewhere behind the error is a broken connection, a lock or a full disk."""
    import requests
    import sqlalchemy.exc

    outages = (requests.RequestException, sqlalchemy.exc.SQLAlchemyError, OSError)
    while error is not None:
        if isinstance(error, outages):
            return True
        error = error.__cause__ or error.__context__
    return False
