"""The Prefect server that all tests of a process share has nothing of an earlier file."""

from tests.prefect_server import Served, empty


def test_it_is_blank_again_and_goes_on(prefect: None, prefect_process: Served) -> None:
    from prefect import flow
    from prefect.client.orchestration import get_client

    @flow
    def short() -> int:
        return 1

    for _ in range(2):
        assert short() == 1
        with get_client(sync_client=True) as client:
            assert [run.flow_id for run in client.read_flow_runs()] == [found.id for found in client.read_flows()]
        empty(prefect_process.database)
        with get_client(sync_client=True) as client:
            assert (client.read_flow_runs(), client.read_flows()) == ([], [])
