import com.netflix.conductor.client.automator.TaskRunnerConfigurer;
import com.netflix.conductor.client.http.ConductorClient;
import com.netflix.conductor.client.http.TaskClient;
import com.netflix.conductor.client.worker.Worker;
import com.netflix.conductor.common.metadata.tasks.Task;
import com.netflix.conductor.common.metadata.tasks.TaskResult;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.List;
import java.util.concurrent.TimeUnit;
import okhttp3.ConnectionPool;

/** A worker on the Java SDK: waits BENCH_MS and says when it began. */
final class Main {
  private static int number(String name) {
    return Integer.parseInt(System.getenv(name));
  }

  public static void main(String[] arguments) {
    int concurrency = number("BENCH_CONCURRENCY");
    long takes = number("BENCH_MS");
    boolean defaults = System.getenv("BENCH_DEFAULTS") != null;
    String type = System.getenv("BENCH_TASK");
    // OkHttp keeps five idle connections by default: 64 threads would connect all the time.
    ConductorClient client =
        ConductorClient.builder()
            .basePath(System.getenv("CONDUCTOR_SERVER_URL"))
            .configureOkHttp(
                http ->
                    http.connectionPool(new ConnectionPool(concurrency + 1, 1, TimeUnit.MINUTES)))
            .build();
    Worker worker =
        new Worker() {
          @Override
          public String getTaskDefName() {
            return type;
          }

          @Override
          public int getPollingInterval() {
            return defaults ? 1000 : 1;
          }

          @Override
          public TaskResult execute(Task task) {
            long began = ChronoUnit.MICROS.between(Instant.EPOCH, Instant.now());
            if (takes > 0) {
              try {
                Thread.sleep(takes);
              } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
              }
            }
            TaskResult result = new TaskResult(task);
            result.setStatus(TaskResult.Status.COMPLETED);
            result.addOutputData("began", began);
            return result;
          }
        };
    TaskRunnerConfigurer runner =
        new TaskRunnerConfigurer.Builder(new TaskClient(client), List.of(worker))
            .withThreadCount(concurrency)
            .withTaskPollTimeout(defaults ? 100 : 5000)
            .withTaskPollCount(concurrency)
            .withUseVirtualThreads("virtual".equals(System.getenv("BENCH_JAVA_THREADS")))
            .withShutdownGracePeriodSeconds(10)
            .build();
    // The SDK leaves signals to its user; this is what it offers for them.
    Runtime.getRuntime().addShutdownHook(new Thread(runner::shutdown));
    runner.init();
  }
}
