#!/usr/bin/env node
// An agent for minici in Node's standard library, which shares no code with minici. It registers
// once, is given one build at a time, and delivers what came of it. It keeps output in memory.
//     SERVER=http://127.0.0.1:8000 PORT=8001 node agent.mjs
// Optional: HOST (127.0.0.1) to listen on, ADVERTISE (HOST) by which the server reaches it,
// FOLDER (agent-PORT) for the checkout, SECRET that is shared with the server.
import { spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { createServer } from "node:http";
import { constants } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";

const { SERVER, PORT, HOST = "127.0.0.1", ADVERTISE = HOST, SECRET, ...inherited } = process.env;
const cwd = inherited.FOLDER ?? `agent-${PORT}`;
const guard = { GIT_TERMINAL_PROMPT: "0", GIT_ALLOW_PROTOCOL: "file:git:http:https:ssh" };
const env = { ...inherited, ...guard, CI: "true" };
mkdirSync(cwd, { recursive: true });

// Posts a form until the server has answered; a 4xx of another kind is its last word.
async function post(path, body) {
  const headers = { "Content-Type": "application/x-www-form-urlencoded" };
  if (SECRET) headers.Authorization = `Bearer ${SECRET}`;
  for (let wait = 500; ; wait = Math.min(wait * 2, 30000)) {
    const sent = fetch(SERVER + path, { method: "POST", headers, body, redirect: "manual" });
    const answer = await sent.catch((error) => ({ status: 599, error }));
    console.error(`${path}: ${answer.error?.cause?.message ?? answer.status}`);
    if (answer.status < 500 && ![401, 408, 429].includes(answer.status)) return;
    await sleep(wait * (0.5 + Math.random() / 2));
  }
}

// Runs a program to its end. Its status is negative where a signal killed it.
function execute(program, ...words) {
  const child = spawn(program, words, { cwd, env, detached: true, stdio: ["ignore", "pipe", "pipe"] });
  const kept = { stdout: [], stderr: [] };
  for (const stream in kept) child[stream].on("data", (piece) => kept[stream].push(piece));
  child.on("error", (error) => kept.stderr.push(Buffer.from(`${error.message}\n`)));
  child.on("exit", () => { // what it left in the background ends with it
    try { process.kill(-child.pid, "SIGKILL"); } catch { /* there was nothing */ }
    setTimeout(() => { for (const stream in kept) child[stream].destroy(); }, 500);
  });
  return new Promise((resolve) => child.on("close", (code, signal) => resolve({
    status: code ?? -constants.signals[signal], stdout: Buffer.concat(kept.stdout), stderr: Buffer.concat(kept.stderr),
  })));
}

async function build({ repository, commit, command }) {
  const refs = ["HEAD:refs/from/HEAD", "refs/heads/*:refs/from/*", "refs/tags/*:refs/tags/*"];
  await execute("git", "init", "--quiet");
  const fetched = await execute("git", "fetch", "--quiet", "--force", "--prune", "--", repository, ...refs);
  if (fetched.status !== 0) return fetched;
  for (const name of [`refs/from/${commit}`, `refs/tags/${commit}`, commit]) {
    const found = await execute("git", "checkout", "--quiet", "--force", "--detach", `${name}^{commit}`, "--");
    const cleaned = found.status || (await execute("git", "clean", "-ffdxq")).status;
    if (cleaned === 0) return execute("/bin/sh", "-e", "-c", command);
  }
  return { status: 1, stdout: "", stderr: `there is no commit ${commit}\n` };
}

// Percent-encodes bytes as they are: output need not be UTF-8.
const encode = (bytes) => escape(Buffer.from(bytes).toString("latin1")).replaceAll("+", "%2B");

let busy = false;
createServer(async (request, response) => {
  const answer = (status) => response.writeHead(status).end();
  if (request.headers.origin) return answer(403); // a browser has no business here
  if (SECRET && request.headers.authorization !== `Bearer ${SECRET}`) return answer(401);
  if (request.method !== "POST" || request.url !== "/build") return answer(404);
  const { id, ...wanted } = Object.fromEntries(new URLSearchParams((await request.toArray()).join("")));
  if (!(/^\d+$/.test(id) && wanted.repository && /^[^-]/.test(wanted.commit) && wanted.command)) return answer(400);
  if (busy) return answer(503);
  busy = true;
  answer(202);
  const { status, stdout, stderr } = await build(wanted);
  busy = false;
  await post("/notify_build_result", `id=${id}&status=${status}&stdout=${encode(stdout)}&stderr=${encode(stderr)}`);
}).listen(PORT, HOST, function () {
  post("/notify_agent", `host=${ADVERTISE}&port=${this.address().port}`);
});
