// What the scripts of this folder share: each is a conversation of people with real
// clients, by arguments and exit status as conversation.mjs says.

import process from "node:process";

// The library talks on the console; only the transcript is to be seen.
const complain = console.error;
for (const method of ["debug", "info", "warn", "error", "trace"]) console[method] = () => {};

export const baseUrl = process.argv[2];
if (!baseUrl) {
    complain(`usage: node ${process.argv[1]} BASE_URL`);
    process.exit(2);
}
const started = Date.now();
/** Tells the runs of a script on one server apart. */
export const unique = started.toString(36);
export const say = (who, what) => console.log(`${who.padEnd(6)} ${what}`);

function fail(err) {
    complain("FAILED", err);
    process.exit(1);
}

/**
 * Makes until(what, emitter, events, check), which waits, for so many milliseconds,
 * until check() gives something true; it is tried anew whenever one of the emitter's
 * events fires.
 */
export const waiting = (within) => (what, emitter, events, check) =>
    new Promise((resolve, reject) => {
        let busy = false;
        let again = false;
        const finish = (done, value) => {
            clearTimeout(timer);
            for (const e of events) emitter.off(e, attempt);
            done(value);
        };
        const attempt = async () => {
            again = true;
            if (busy) return;
            busy = true;
            try {
                while (again) {
                    again = false;
                    const value = await check();
                    if (value) return finish(resolve, value);
                }
            } catch (err) {
                finish(reject, err);
            } finally {
                busy = false;
            }
        };
        const timer = setTimeout(() => finish(reject, new Error(`timed out waiting until ${what}`)), within);
        for (const e of events) emitter.on(e, attempt);
        attempt();
    });

/**
 * Stopping a client aborts its long poll, which some versions of Node report as an
 * error that nobody has caught: from here on that is none.
 */
export function expectAborts() {
    process.on("uncaughtException", (err) => {
        if (err.name !== "AbortError") fail(err);
    });
}

/** Runs a script and ends the process, which fails when it takes more seconds than that. */
export function run(conversation, within = 120) {
    setTimeout(() => fail(new Error(`the script has not ended after ${within} s`)), within * 1000);
    conversation().then(() => {
        console.log(`ok     in ${((Date.now() - started) / 1000).toFixed(1)} s`);
        process.exit(0);
    }, fail);
}
