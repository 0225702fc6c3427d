// Runs a command beside a server on this machine.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:os';

/** Splits arguments at `--`. Ends the process with the usage if there is no command. */
export function splitArguments(argv, usage) {
  const at = argv.indexOf('--');
  if (at >= 0 && at < argv.length - 1) return { options: argv.slice(0, at), command: argv.slice(at + 1) };
  console.error(`Usage: ${usage}`);
  process.exit(2);
}

/** Starts a server on a free port of 127.0.0.1, and returns its URL. */
export async function listen(server) {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `http://127.0.0.1:${server.address().port}`;
}

/**
 * Waits until a response has its connection.
 *
 * A client may send the next request before Node.js has noted the end of the previous response. Until then, the next
 * response has no socket that could be closed.
 */
export async function connected(response) {
  if (!response.socket) await once(response, 'socket');
}

/** Stops a server and closes its connections. */
export async function stop(server) {
  const closed = once(server, 'close');
  server.close();
  server.closeAllConnections();
  await closed;
}

/** Runs a command with additional environment variables, and returns its exit status. */
export async function run([program, ...args], environment) {
  const child = spawn(program, args, { stdio: 'inherit', env: { ...process.env, ...environment } });
  const forward = (signal) => child.kill(signal);
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];
  for (const signal of signals) process.on(signal, forward);
  try {
    const [status, signal] = await once(child, 'exit');
    return status ?? 128 + constants.signals[signal];
  } catch (error) {
    console.error(`${program} could not be started: ${error.message}`);
    return 127;
  } finally {
    for (const name of signals) process.off(name, forward);
  }
}
