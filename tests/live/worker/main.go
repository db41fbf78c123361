// A worker on the Go SDK that takes as long as each task's input says, and tells a ledger when
// it began and when it was done. With CAREFUL set it ends as well as the SDK lets it: told to end,
// it polls no more, and what it has is executed and reported before it goes.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/conductor-sdk/conductor-go/sdk/client"
	"github.com/conductor-sdk/conductor-go/sdk/model"
	"github.com/conductor-sdk/conductor-go/sdk/worker"
	log "github.com/sirupsen/logrus"
)

func variable(name string) string {
	value := os.Getenv(name)
	if value == "" {
		fmt.Fprintf(os.Stderr, "set %s in the environment\n", name)
		os.Exit(64)
	}
	return value
}

// As many connections to the ledger as there are slots; the default keeps two.
var ledger = &http.Client{
	Timeout:   10 * time.Second,
	Transport: &http.Transport{MaxIdleConnsPerHost: 1000},
}

func tell(url, pod, task, moment string) error {
	line, err := json.Marshal(map[string]string{"task": task, "pod": pod, "moment": moment})
	if err != nil {
		return err
	}
	answer, err := ledger.Post(url, "application/json", bytes.NewReader(line))
	if err != nil {
		return err
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the ledger answered %s", answer.Status)
	}
	return nil
}

func main() {
	log.SetLevel(log.WarnLevel)
	slots, err := strconv.Atoi(variable("SLOTS"))
	if err != nil {
		log.Fatal(err)
	}
	url, pod, taskType := variable("LEDGER_URL"), variable("POD_NAME"), variable("TASK_TYPE")
	var executing sync.WaitGroup
	work := func(task *model.Task) (interface{}, error) {
		executing.Add(1)
		defer executing.Done()
		seconds, ok := task.InputData["seconds"].(float64)
		if !ok {
			return nil, model.NewNonRetryableError(fmt.Errorf("the input has no number of seconds"))
		}
		if err := tell(url, pod, task.TaskId, "began"); err != nil {
			return nil, err
		}
		time.Sleep(time.Duration(seconds * float64(time.Second)))
		if err := tell(url, pod, task.TaskId, "ended"); err != nil {
			return nil, err
		}
		return map[string]interface{}{}, nil
	}
	runner := worker.NewTaskRunnerWithApiClient(client.NewAPIClientFromEnv())
	// The SDK has no default for the pause after an empty poll; its examples take 100 ms. It has
	// no signal handling either: a pod's end is the end of what runs in it.
	if err := runner.StartWorker(taskType, work, slots, 100*time.Millisecond); err != nil {
		log.Fatal(err)
	}
	if os.Getenv("CAREFUL") != "" {
		told := make(chan os.Signal, 1)
		signal.Notify(told, syscall.SIGTERM)
		<-told
		runner.Shutdown(taskType)
		// The poll in the air, whose tasks begin at once.
		runner.WaitWorkers()
		time.Sleep(100 * time.Millisecond)
		executing.Wait()
		// The SDK reports after an execution and does not tell when it is done.
		time.Sleep(2 * time.Second)
		return
	}
	runner.WaitWorkers()
}
