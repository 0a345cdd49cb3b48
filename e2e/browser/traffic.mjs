// What the browsers ask of the homeserver, and what it answers.

/** Names and numbers in a path give way to what they are. */
function operation(method, pathname) {
    const name = pathname
        .split("/")
        .map((part) => decodeURIComponent(part))
        .map((part, i, all) => {
            if (/^!/.test(part)) return "{roomId}";
            if (/^@/.test(part)) return "{userId}";
            if (/^\$/.test(part)) return "{eventId}";
            if (/^#/.test(part)) return "{roomAlias}";
            if (/^m\d+\.\d+$/.test(part)) return "{txnId}";
            if (["download", "thumbnail"].includes(all[i - 2])) return "{mediaId}";
            if (["filter", "sendToDevice"].includes(all[i - (all[i - 2] === "sendToDevice" ? 2 : 1)]) && !part.startsWith("m.")) return "{id}";
            return part;
        });
    return `${method} ${name.join("/")}`;
}

/** Collects the requests of browser contexts to one server. */
export class Traffic {
    constructor(server) {
        this.server = server;
        this.answers = new Map(); // operation → Map(status → how often)
        this.refusals = []; // answers from 400 on
        this.slow = []; // what took more than a second and is no long poll
        this.failures = []; // no answer at all
        this.console = [];
    }

    watch(who, context) {
        context.on("requestfinished", (request) => this.finished(who, request));
        context.on("requestfailed", (request) => {
            if (!this.ours(request)) return;
            const { errorText } = request.failure();
            if (errorText !== "net::ERR_ABORTED") this.failures.push(`${who}: ${request.method()} ${request.url()}: ${errorText}`);
        });
        context.on("console", (message) => this.console.push(`${who}: ${message.type()}: ${message.text()}`));
        context.on("weberror", (error) => this.console.push(`${who}: exception: ${error.error().stack}`));
    }

    ours(request) {
        return request.url().startsWith(`${this.server}/`);
    }

    async finished(who, request) {
        if (!this.ours(request)) return;
        const response = await request.response();
        const { pathname, searchParams } = new URL(request.url());
        const name = operation(request.method(), pathname);
        const byStatus = this.answers.get(name) ?? new Map();
        this.answers.set(name, byStatus.set(response.status(), (byStatus.get(response.status()) ?? 0) + 1));
        if (response.status() >= 400) {
            const body = await response.text().catch(() => "");
            this.refusals.push({ name, status: response.status(), errcode: /"errcode":"([^"]*)"/.exec(body)?.[1] ?? "", who, url: request.url(), body });
        }
        const ms = request.timing().responseEnd;
        if (ms > 1000 && !searchParams.get("timeout")) this.slow.push(`${who}: ${name}: ${Math.round(ms)} ms`);
    }

    count() {
        return [...this.answers.values()].flatMap((byStatus) => [...byStatus.values()]).reduce((a, b) => a + b, 0);
    }

    /** Tells everything, for people. */
    report() {
        const lines = [...this.answers].sort(([a], [b]) => a.localeCompare(b)).map(([name, byStatus]) =>
            `${[...byStatus].map(([status, n]) => `${status}×${n}`).join(" ").padEnd(16)} ${name}`);
        const refusals = this.refusals.map((r) => `${r.who}: ${r.status} ${r.name}: ${r.body}`);
        return ["ANSWERS", ...lines, "", "REFUSALS", ...refusals, "", "NO ANSWER", ...this.failures, "", "SLOW", ...this.slow, "", "CONSOLE", ...this.console, ""].join("\n");
    }
}
