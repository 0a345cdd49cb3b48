// An encrypted conversation that goes on whatever happens to the server, which has to
// be a cluster whose instances die: node persistence.mjs http://127.0.0.1:8008 SECONDS
//
// Three people, one of them on two devices, write for so many seconds. Every device
// must have decrypted every message, once and in its sender's order, though a key
// serves for few messages and comes by a message to each device. The server must
// allow open registration.

import * as sdk from "matrix-js-sdk";
import { CryptoEvent } from "matrix-js-sdk/lib/crypto-api/index.js";
import assert from "node:assert/strict";
import process from "node:process";

import { encryptedRoom, logIn, register, sign } from "./people.mjs";
import { expectAborts, run, say, waiting } from "./script.mjs";

const until = waiting(60000);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Collects the IDs of the messages that /sync brings a device, in order, and as often as it brings them. */
function listen(device, room) {
    const ids = [];
    device.client.on(sdk.ClientEvent.Event, (event) => {
        if (event.getRoomId() === room && event.getWireType() === "m.room.encrypted") ids.push(event.getId());
    });
    return ids;
}

/** Writes numbered messages until the time is over, each until it is acknowledged, and tells how many. */
async function talk(device, room, end) {
    let n = 0;
    for (; Date.now() < end; n++) {
        await persist(device, room, `${n}`);
        await pause(100);
    }
    return n;
}

/** Sends a message; where the library gives up, under the same transaction once more, as "try again" in an app. */
async function persist(device, room, text) {
    let send = () => device.client.sendTextMessage(room, text);
    for (const deadline = Date.now() + 60000; ; await pause(200)) {
        try {
            return await send();
        } catch (err) {
            const passes = err instanceof sdk.ConnectionError || err.httpStatus >= 500;
            if (!passes || !err.event || Date.now() > deadline) throw err;
            send = () => device.client.resendEvent(err.event, device.client.getRoom(room));
        }
    }
}

/** The texts of a sender that have come to a device; null while one is not decrypted. */
function texts(device, room, ids, sender) {
    const from = ids.map((id) => device.client.getRoom(room).findEventById(id)).filter((e) => e?.getSender() === sender);
    return from.some((e) => e.isBeingDecrypted() || e.isDecryptionFailure()) ? null : from.map((e) => e.getContent().body);
}

async function persistence() {
    const seconds = Number(process.argv[3]);
    assert.ok(seconds > 0, "for how many seconds");
    const [alice, bob, carol] = await Promise.all(["Alice", "Bob", "Carol"].map(register));
    for (const person of [alice, bob, carol]) await sign(person);
    const phone = await logIn(alice);
    const room = await encryptedRoom(alice, [bob, carol], { rotation_period_msgs: 3 });
    const devices = [alice, phone, bob, carol];
    const all = [sdk.RoomEvent.Timeline, sdk.MatrixEventEvent.Decrypted, sdk.ClientEvent.ToDeviceEvent, CryptoEvent.DevicesUpdated, sdk.ClientEvent.Sync];
    for (const device of devices) {
        await until(`${device.name} has everybody in the room`, device.client, [sdk.RoomStateEvent.Members, sdk.ClientEvent.Sync], () =>
            device.client.getRoom(room)?.getJoinedMembers().length === 3);
    }
    const heard = new Map(devices.map((device) => [device, listen(device, room)]));
    console.log("begins"); // whoever is to do harm does it now
    const writers = [alice, bob, carol];
    const sent = await Promise.all(writers.map((writer) => talk(writer, room, Date.now() + seconds * 1000)));
    for (const device of devices) {
        for (const [i, writer] of writers.entries()) {
            const what = `${device.name} on ${device.device} has read what ${writer.name} wrote`;
            await until(what, device.client, all, () => texts(device, room, heard.get(device), writer.id)?.length >= sent[i]);
            assert.deepEqual(texts(device, room, heard.get(device), writer.id), Array.from({ length: sent[i] }, (_, n) => `${n}`), what);
        }
        const ids = heard.get(device);
        assert.equal(new Set(ids).size, ids.length, "no message twice");
        const keys = new Set(ids.map((id) => device.client.getRoom(room).findEventById(id).getWireContent().session_id));
        say(device.name, `has read ${ids.length} messages on ${device.device}, with ${keys.size} keys`);
        assert.ok(keys.size >= ids.length / 6, "keys were to change");
    }
    assert.ok(Math.min(...sent) >= 5, `that was hardly a conversation: ${sent}`);
    for (const device of devices) device.client.stopClient();
}

expectAborts();
run(persistence, Number(process.argv[3]) + 180);
