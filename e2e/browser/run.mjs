// Two people with a web client in two browsers, with Dendrite as `make run` starts
// it: node run.mjs FOLDER_OF_CINNY FOLDER_FOR_SCREENSHOTS
//
// Every line printed was on the screen of the person named. The first thing that is
// not as it should be ends the script with status 1, and so does an answer of the
// server that is a refusal and not expected. traffic.txt, beside the screenshots,
// has what the browsers asked and what they logged.

import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";

import { chromium } from "playwright-core";

import { sitDown } from "./person.mjs";
import { execute, servePages, startDendrite } from "./server.mjs";
import { Traffic } from "./traffic.mjs";

/** What the client asks for though it need not be there: status, operation, errcode. */
const expected = [
    [404, "GET /.well-known/matrix/client", "M_NOT_FOUND"], // not configured: the address that was typed in is it
    [401, "POST /_matrix/client/v3/register", ""], // what authentication is there
    [404, "GET /_matrix/client/v3/room_keys/version", "M_NOT_FOUND"], // nobody has made a backup of keys
    [404, "GET /_matrix/client/v3/voip/turnServer", "M_NOT_FOUND"], // none is configured; spec: MSC4166
];

const say = (who, what) => console.log(`${who.padEnd(6)} ${what}`);

/** A picture that is easy to tell from others. */
async function paint(browser) {
    const page = await browser.newPage({ viewport: { width: 640, height: 480 } });
    await page.setContent('<body style="margin:0;background:linear-gradient(45deg,gold,teal);font:bold 120px sans-serif;text-align:center;line-height:480px">SOUP</body>');
    const data = await page.screenshot();
    await page.close();
    return data;
}

/** An encrypted room, as the client makes them: one invites, the other joins. */
async function kitchen(alice, bob, picture) {
    await alice.createRoom("The kitchen");
    await alice.shoot("room");
    say("Alice", "made a room, encrypted");
    await alice.invite("@bob:localhost");
    await bob.accept("The kitchen");
    say("Bob", "was invited, and joined");
    await alice.say("Soup or salad?");
    await bob.reads("Soup or salad?");
    say("Bob", "reads: Soup or salad?");
    await bob.say("Soup, please");
    await alice.reads("Soup, please");
    say("Alice", "reads: Soup, please");
    await alice.sendPicture("soup.png", picture);
    assert.deepEqual(await bob.sees("soup.png"), [640, 480]);
    await bob.shoot("picture");
    say("Bob", "sees Alice's picture, decrypted");
}

/** A public room, found by its address, and media that are not encrypted. */
async function hall(alice, bob, picture) {
    await alice.createRoom("The hall", "hall");
    await bob.joinByAddress("#hall:localhost", "The hall");
    say("Bob", "joined a public room by its address");
    await bob.say("Who is here?");
    await alice.reads("Who is here?");
    await bob.sendPicture("hall.png", picture);
    assert.deepEqual(await alice.sees("hall.png"), [640, 480]);
    await alice.shoot("hall");
    say("Alice", "reads, and sees Bob's picture");
    await alice.setAvatar("alice.png", picture);
    await alice.say("It is me");
    await bob.reads("It is me");
    assert.deepEqual(await bob.seesAvatar("alice"), [48, 48]);
    await bob.shoot("hall");
    say("Bob", "sees Alice's avatar, as a thumbnail");
}

/** Loading the page anew keeps the session, the history, and its keys. */
async function reload(person, other) {
    await person.reload();
    await person.open("The hall");
    await person.reads("Who is here?");
    assert.deepEqual(await person.sees("hall.png"), [640, 480]);
    await person.open("The kitchen");
    for (const text of ["Soup or salad?", "Soup, please"]) await person.reads(text);
    assert.deepEqual(await person.sees("soup.png"), [640, 480]);
    await person.shoot("reloaded");
    say(person.name, "loaded the page anew: the session and the history are there");
    await other.open("The kitchen");
    await person.say(`I am back, ${other.name}`);
    await other.reads(`I am back, ${other.name}`);
    say(other.name, `reads: I am back, ${other.name}`);
}

/** One has an account, the other signs up; then they talk. */
async function meet(browser, pages, dendrite, state, out, traffic) {
    const people = [];
    try {
        for (const name of ["Alice", "Bob"]) people.push(await sitDown(browser, name, pages.url, out, traffic));
        const [alice, bob] = people;
        await execute("bin/create-account", ["--url", dendrite.url, "--shared-secret-file", path.join(state, "data", "registration.secret"), "--username", "alice", "--password", "correct horse"]);
        await alice.enter("login", "alice", "correct horse");
        say("Alice", "logged in to the account that was made for her");
        await bob.enter("register", "bob", "battery staple");
        say("Bob", "signed up");
        const picture = await paint(browser);
        await kitchen(alice, bob, picture);
        await hall(alice, bob, picture);
        await reload(alice, bob);
        await reload(bob, alice);
    } catch (err) {
        for (const person of people) await person.shoot("failed");
        throw err;
    }
    const unexpected = traffic.refusals.filter((r) => !expected.some(([status, name, errcode]) => status === r.status && name === r.name && errcode === r.errcode));
    assert.deepEqual(unexpected, [], "answers that are refusals");
    assert.deepEqual(traffic.failures, [], "requests without an answer");
    say("server", `answered ${traffic.count()} requests, and refused only what it has to`);
}

async function main(pagesFolder, out) {
    await mkdir(out, { recursive: true });
    const state = await mkdtemp(path.join(tmpdir(), "dendrite-browser-"));
    const ends = [() => rm(state, { recursive: true })]; // of what was begun, last first
    try {
        const dendrite = await startDendrite(path.join(state, "data"));
        ends.push(dendrite.stop);
        say("server", `runs at ${dendrite.url}`);
        const pages = await servePages(pagesFolder, dendrite.url);
        ends.push(pages.stop);
        const traffic = new Traffic(dendrite.url);
        ends.push(() => writeFile(path.join(out, "traffic.txt"), traffic.report()));
        const browser = await chromium.launch({
            executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
            args: process.getuid() === 0 ? ["--no-sandbox"] : [], // Chromium's does not work for root
        });
        ends.push(() => browser.close());
        await meet(browser, pages, dendrite, state, out, traffic);
    } finally {
        for (const end of ends.reverse()) await end();
    }
}

const [pagesFolder, out] = process.argv.slice(2);
if (!out) {
    console.error("usage: node run.mjs FOLDER_OF_CINNY FOLDER_FOR_SCREENSHOTS");
    process.exit(2);
}
await main(pagesFolder, out);
