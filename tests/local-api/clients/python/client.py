"""Code of a handler that uses Conductor's Python SDK as its documentation has it: the address
comes from CONDUCTOR_SERVER_URL, and there is no key.

    client.py HELD FOREIGN WORKFLOW [SYNC]

HELD is the id of a task whose call is under way, FOREIGN that of another one, WORKFLOW that of a
workflow with a task `task`, SYNC that of another one. What was answered is printed as JSON.
"""

import json
import sys

from conductor.client.configuration.configuration import Configuration
from conductor.client.http.models.task_result import TaskResult
from conductor.client.http.rest import ApiException
from conductor.client.orkes_clients import OrkesClients


def refusal(call):
    """What the client says of an answer that is an error."""
    try:
        return f"no error: {call()}"
    except ApiException as error:
        return {"status": error.status, "body": error.body}


def result(task, status):
    return TaskResult(
        task_id=task.task_id,
        workflow_instance_id=task.workflow_instance_id,
        status=status,
        output_data={"by": "client"},
    )


def main():
    held, foreign, workflow, sync = sys.argv[1:]
    tasks = OrkesClients(configuration=Configuration()).get_task_client()
    answers = {}

    task = tasks.get_task(held)
    answers["got"] = {"status": task.status, "input": task.input_data}
    tasks.add_task_log(held, "half way")
    answers["logs"] = [line.log for line in tasks.get_task_logs(held)]
    answers["inProgress"] = refusal(lambda: tasks.update_task(result(task, "IN_PROGRESS")))
    other = tasks.get_task(foreign)
    answers["updatedForeign"] = tasks.update_task(result(other, "COMPLETED"))
    answers["updatedByReference"] = tasks.update_task_by_ref_name(
        workflow, "task", "COMPLETED", "client"
    )
    answers["updatedSync"] = tasks.update_task_sync(
        sync, "task", "COMPLETED", {"by": "client"}
    ).workflow_id
    answers["updatedHeld"] = tasks.update_task(result(task, "COMPLETED"))
    answers["polled"] = refusal(lambda: tasks.poll_task("greet"))
    json.dump(answers, sys.stdout)


main()
