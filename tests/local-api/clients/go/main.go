// Code of a handler that uses Conductor's Go SDK as its documentation has it: the address
// comes from CONDUCTOR_SERVER_URL, and there is no key.
//
//	client HELD FOREIGN WORKFLOW
//
// HELD is the id of a task whose call is under way, FOREIGN that of another one, WORKFLOW that
// of a workflow with a task `task`. What was answered is printed as JSON.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/conductor-sdk/conductor-go/sdk/client"
	"github.com/conductor-sdk/conductor-go/sdk/model"
)

func main() {
	answers, err := talk(os.Args[1], os.Args[2], os.Args[3])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(answers)
}

func talk(held, foreign, workflow string) (map[string]any, error) {
	ctx := context.Background()
	api := client.NewAPIClientFromEnv()
	tasks := client.NewTaskClient(api)
	answers := map[string]any{}

	task, _, err := tasks.GetTask(ctx, held)
	if err != nil {
		return nil, fmt.Errorf("get the held task: %w", err)
	}
	answers["got"] = map[string]any{"status": task.Status, "input": task.InputData}

	if _, err = tasks.Log(ctx, "half way", held); err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	lines, _, err := tasks.GetTaskLogs(ctx, held)
	if err != nil {
		return nil, fmt.Errorf("get the log: %w", err)
	}
	logged := []string{}
	for _, line := range lines {
		logged = append(logged, line.Log)
	}
	answers["logs"] = logged

	result := model.NewTaskResultFromTask(&task)
	result.Status = model.InProgressTask
	_, _, err = tasks.UpdateTask(ctx, result)
	answers["inProgress"] = refusal(err)

	other, _, err := tasks.GetTask(ctx, foreign)
	if err != nil {
		return nil, fmt.Errorf("get the foreign task: %w", err)
	}
	result = model.NewTaskResultFromTask(&other)
	result.Status = model.CompletedTask
	result.OutputData = map[string]any{"by": "client"}
	if answers["updatedForeign"], _, err = tasks.UpdateTask(ctx, result); err != nil {
		return nil, fmt.Errorf("update the foreign task: %w", err)
	}

	output := map[string]any{"by": "client"}
	answers["updatedByReference"], _, err = tasks.UpdateTaskByRefName(ctx, output, workflow, "task", "COMPLETED")
	if err != nil {
		return nil, fmt.Errorf("update by reference name: %w", err)
	}

	result = model.NewTaskResultFromTask(&task)
	result.Status = model.CompletedTask
	result.OutputData = map[string]any{"by": "client"}
	if answers["updatedHeld"], _, err = tasks.UpdateTask(ctx, result); err != nil {
		return nil, fmt.Errorf("update the held task: %w", err)
	}

	_, _, err = tasks.Poll(ctx, "greet", nil)
	answers["polled"] = refusal(err)
	return answers, nil
}

// refusal is what the client says of an answer that is an error.
func refusal(err error) any {
	var said client.GenericSwaggerError
	if !errors.As(err, &said) {
		return fmt.Sprintf("%T: %v", err, err)
	}
	return map[string]any{"status": said.StatusCode(), "body": string(said.Body())}
}
