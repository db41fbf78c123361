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
	// The interval is slept after an empty poll only: with a long poll that is the pause. The SDK
	// has no default for it; its examples take 100 ms.
	interval, timeout := time.Millisecond, 5*time.Second
	if os.Getenv("BENCH_DEFAULTS") != "" {
		interval, timeout = 100*time.Millisecond, -time.Millisecond
	}
	if err := runner.StartWorker(task, work, number("BENCH_CONCURRENCY"), interval); err != nil {
		log.Fatal(err)
	}
	if err := runner.SetPollTimeoutForTask(task, timeout); err != nil {
		log.Fatal(err)
	}
	// The SDK has no signal handling; its examples end so.
	runner.WaitWorkers()
}
