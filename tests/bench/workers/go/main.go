// A worker on the Go SDK: waits BENCH_MS and says when it began.
package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/conductor-sdk/conductor-go/sdk/client"
	"github.com/conductor-sdk/conductor-go/sdk/model"
	"github.com/conductor-sdk/conductor-go/sdk/worker"
	log "github.com/sirupsen/logrus"
)

func number(name string) int {
	n, err := strconv.Atoi(os.Getenv(name))
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: set it to a number: %v\n", name, err)
		os.Exit(64)
	}
	return n
}

func main() {
	log.SetLevel(log.WarnLevel)
	takes := time.Duration(number("BENCH_MS")) * time.Millisecond
	task := os.Getenv("BENCH_TASK")
	runner := worker.NewTaskRunnerWithApiClient(client.NewAPIClientFromEnv())
	work := func(*model.Task) (interface{}, error) {
		began := time.Now().UnixMicro()
		if takes > 0 {
			time.Sleep(takes)
		}
		return map[string]interface{}{"began": began}, nil
	}
	// The interval is slept after an empty poll only: the long poll is the pause.
	if err := runner.StartWorker(task, work, number("BENCH_CONCURRENCY"), time.Millisecond); err != nil {
		log.Fatal(err)
	}
	if err := runner.SetPollTimeoutForTask(task, 5*time.Second); err != nil {
		log.Fatal(err)
	}
	// The SDK has no signal handling; its examples end so.
	runner.WaitWorkers()
}
