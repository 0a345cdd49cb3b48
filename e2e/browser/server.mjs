// The two servers of a run: Dendrite, started as its README says, and a plain one
// for the pages of the client.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createReadStream, existsSync, statSync } from "node:fs";
import http from "node:http";
import net from "node:net";
import path from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

const repository = fileURLToPath(new URL("../..", import.meta.url));

async function freePort() {
    const server = net.createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address();
    server.close();
    await once(server, "close");
    return port;
}

/** Runs a program of the repository to its end. */
export async function execute(program, args) {
    const child = spawn(program, args, { cwd: repository, stdio: ["ignore", "pipe", "pipe"] });
    let said = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (said += data));
    const [code] = await once(child, "close");
    if (code !== 0) throw new Error(`${program} ${args[0]}…: status ${code}\n${said}`);
    return said;
}

/** Starts `make run` on a folder, with open registration, and waits until it listens. */
export async function startDendrite(data) {
    const listen = `127.0.0.1:${await freePort()}`;
    const child = spawn("make", ["run", `DATA=${data}`, `LISTEN=${listen}`], {
        cwd: repository, detached: true, stdio: ["ignore", "pipe", "pipe"],
        env: { ...process.env, DENDRITE_REGISTRATION_OPEN: "true", MAKEFLAGS: "" },
    });
    // It is in a process group of its own, so what stops this process does not reach it.
    const stop = () => process.kill(-child.pid, "SIGINT");
    const abandon = () => stop() && process.exit(1);
    for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, abandon);
    let log = "";
    const ended = once(child, "close");
    const url = await new Promise((resolve, reject) => {
        for (const stream of [child.stdout, child.stderr]) {
            stream.on("data", (data) => {
                log += data;
                const found = /listening on (http:\S+)/.exec(log);
                if (found) resolve(found[1]);
            });
        }
        ended.then(() => reject(new Error(`make run ended:\n${log}`)));
    });
    return {
        url,
        /** Stops it in order, as Ctrl-C does. */
        async stop() {
            for (const signal of ["SIGINT", "SIGTERM"]) process.off(signal, abandon);
            if (child.exitCode === null) stop();
            await ended;
        },
    };
}

const types = {
    ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".json": "application/json",
    ".svg": "image/svg+xml", ".png": "image/png", ".wasm": "application/wasm", ".woff2": "font/woff2", ".ttf": "font/ttf", ".ogg": "audio/ogg",
};

/** Serves the pages of Cinny, configured for one homeserver. */
export async function servePages(folder, homeserver) {
    const config = JSON.stringify({ defaultHomeserver: 0, homeserverList: [homeserver], allowCustomHomeservers: true, hashRouter: { enabled: false, basename: "/" } });
    const server = http.createServer((req, res) => {
        const name = decodeURIComponent(new URL(req.url, "http://pages").pathname);
        if (name === "/config.json") return res.setHeader("Content-Type", "application/json").end(config);
        // The app asks for this file below whatever path it is at, and its server is to know that.
        let file = path.join(folder, name.endsWith("/olm.wasm") ? "olm.wasm" : path.normalize(name));
        if (!existsSync(file) || !statSync(file).isFile()) file = path.join(folder, "index.html"); // paths within the app
        res.setHeader("Content-Type", types[path.extname(file)] ?? "application/octet-stream");
        createReadStream(file).pipe(res);
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return {
        url: `http://127.0.0.1:${server.address().port}`,
        stop() {
            server.close();
            server.closeAllConnections();
        },
    };
}
