// A service on Node.js's own HTTP server, with the routes that all workloads share.
"use strict";

const { spawn } = require("node:child_process");
const { createHash } = require("node:crypto");
const { readFile } = require("node:fs");
const http = require("node:http");
const net = require("node:net");
const { parseArgs } = require("node:util");

const MEBIBYTE = 1 << 20;
const IDLE_MS = 600_000; // an idle connection is kept: one that closes as a request comes is an error
const DATABASE_WAIT_MS = Number(process.env.WORKLOAD_WAIT_MS || 10);
const PROGRAM = process.env.WORKLOAD_PROGRAM || "/bin/true";
const WATCHED = process.env.WORKLOAD_FILE || "watched.txt";

const kept = [];
const block = Buffer.alloc(1024);
const words = new Uint32Array(block.buffer, block.byteOffset, block.length / 4);
let state = (Math.random() * 0xffffffff) | 1;

/** A request that is answered with something else than 200. */
class Refusal extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

function route(request, response) {
  const [path, query = ""] = request.url.split("?", 2);
  if (path.startsWith("/api/users/")) {
    user(response, number(path, "/api/users/"), query);
  } else if (path.startsWith("/api/orders/")) {
    order(response, number(path, "/api/orders/"));
  } else if (path === "/") {
    text(response, 200, "hello\n");
  } else if (path === "/healthz") {
    text(response, 200, "ok\n");
  } else if (path === "/cpu") {
    const blocks = whole(query, "blocks", 64, 1_000_000);
    json(response, { blocks, md5: digest(blocks) });
  } else if (path === "/alloc") {
    alloc(response, query);
  } else if (path === "/file") {
    file(response);
  } else if (path === "/exec") {
    execute(response);
  } else {
    throw new Refusal(404, "there is nothing here");
  }
}

/** Waits as a database would, then answers with JSON. */
function user(response, id, query) {
  const answer = () => json(response, { id, name: `User ${id}`, active: id % 2 === 0 });
  setTimeout(answer, whole(query, "wait_ms", DATABASE_WAIT_MS, 60_000)).unref();
}

/** Hashes so many random blocks of 1 KiB; the last sum. */
function digest(blocks) {
  let sum = createHash("md5");
  for (let i = 0; i < blocks; i++) {
    for (let j = 0; j < words.length; j++) {
      state ^= state << 13; // xorshift: random bytes of the system would be its CPU, not ours
      state ^= state >>> 17;
      state ^= state << 5;
      words[j] = state;
    }
    sum = createHash("md5").update(block);
  }
  return sum.digest("hex");
}

/** Fills so many MiB and lets go of them; with keep=1 it leaks 1 MiB too. */
function alloc(response, query) {
  const mb = whole(query, "mb", 1, 256);
  for (let i = 0; i < mb; i++) {
    filled();
  }
  if (new URLSearchParams(query).get("keep") === "1") {
    kept.push(filled());
  }
  json(response, { mb, kept_mb: kept.length });
}

function filled() {
  const memory = Buffer.allocUnsafeSlow(MEBIBYTE);
  for (let i = 0; i < memory.length; i += 4096) {
    memory[i] = 1;
  }
  return memory;
}

/** Asks the upstream over a connection of its own. */
function order(response, id) {
  const connection = net.connect(upstream.address().port, "127.0.0.1");
  connection.on("error", (error) => failed(response, 502, error));
  withLine(connection, (name) => {
    connection.end();
    json(response, { id, name });
  });
  connection.write(`${id}\n`);
}

/** Reads a file that a collector may watch. */
function file(response) {
  readFile(WATCHED, (error, content) => {
    if (error) {
      failed(response, 500, error);
    } else {
      json(response, { bytes: content.length });
    }
  });
}

/** Runs a small program and waits for its end. */
function execute(response) {
  const child = spawn(PROGRAM, [], { stdio: "ignore" });
  child.on("error", (error) => failed(response, 500, error));
  child.on("exit", (code) => json(response, { exit_code: code }));
}

/** What orders wait for: a line in, the wait of a database, a line out. */
const upstream = net.createServer((connection) => {
  connection.on("error", () => connection.destroy()); // whoever hung up takes nobody's place
  withLine(connection, (line) => {
    setTimeout(() => connection.end(`Order ${line}\n`), DATABASE_WAIT_MS).unref();
  });
});

/** Calls back with the first line that comes, once it is whole. */
function withLine(connection, then) {
  let said = "";
  connection.setEncoding("utf8");
  connection.on("data", (more) => {
    const there = said.includes("\n");
    said += more;
    if (!there && said.includes("\n")) {
      then(said.slice(0, said.indexOf("\n")));
    }
  });
}

function number(path, prefix) {
  const digits = path.slice(prefix.length);
  if (!/^\d{1,9}$/.test(digits)) {
    throw new Refusal(404, "there is nothing here");
  }
  return Number(digits);
}

function whole(query, key, fallback, limit) {
  const found = new URLSearchParams(query).get(key);
  if (found !== null && (!/^\d{1,9}$/.test(found) || Number(found) > limit)) {
    throw new Refusal(400, `${key} must be 0 to ${limit}`);
  }
  return found === null ? fallback : Number(found);
}

function json(response, value) {
  send(response, 200, "application/json", JSON.stringify(value) + "\n");
}

function text(response, status, body) {
  send(response, status, "text/plain; charset=utf-8", body);
}

function failed(response, status, error) {
  if (!response.headersSent) {
    text(response, status, `${error.message}\n`);
  }
}

function send(response, status, type, body) {
  response.writeHead(status, { "Content-Type": type, "Content-Length": Buffer.byteLength(body) });
  response.end(body);
}

const server = http.createServer({ keepAliveTimeout: IDLE_MS }, (request, response) => {
  try {
    route(request, response);
  } catch (error) {
    failed(response, error.status || 500, error);
  }
});

function stop() {
  server.close();
  server.closeAllConnections();
  upstream.close();
}

const { values } = parseArgs({
  options: {
    host: { type: "string", default: "127.0.0.1" },
    port: { type: "string", default: "0" },
  },
});
process.on("SIGTERM", stop);
process.on("SIGINT", stop);
upstream.listen(0, "127.0.0.1", () => {
  server.listen(Number(values.port), values.host, () => {
    console.log(JSON.stringify({ ready: true, port: server.address().port }));
  });
});
