// A worker on the JavaScript SDK: waits BENCH_MS and says when it began.
import { OrkesClients, TaskHandler, noopLogger, worker } from "@io-orkes/conductor-javascript";

function number(name) {
  const value = Number(process.env[name]);
  if (!Number.isInteger(value)) throw new Error(`${name}: set it to a number`);
  return value;
}

const takes = number("BENCH_MS");

async function work() {
  const began = Math.floor((performance.timeOrigin + performance.now()) * 1000);
  if (takes > 0) await new Promise((resolve) => setTimeout(resolve, takes));
  return { status: "COMPLETED", outputData: { began } };
}

worker({
  taskDefName: process.env.BENCH_TASK,
  concurrency: number("BENCH_CONCURRENCY"),
  ...(process.env.BENCH_DEFAULTS ? {} : { pollInterval: 1, pollTimeout: 5000 }),
})(work);

const clients = await OrkesClients.from({ logger: noopLogger });
const handler = new TaskHandler({ client: clients.getClient(), logger: noopLogger });
await handler.startWorkers();

// As the SDK's own example has it.
process.on("SIGTERM", async () => {
  await handler.stopWorkers();
  process.exit(0);
});
